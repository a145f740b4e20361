"""Level 8: what happens between steps and epochs."""
