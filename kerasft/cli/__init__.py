"""Level 10: the command line. It parses, calls the public functions, and prints."""
