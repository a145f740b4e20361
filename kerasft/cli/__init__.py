"""Level 11: the command line. It parses, calls the public functions, and prints."""
