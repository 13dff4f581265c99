"""The command line: what parses and prints."""
