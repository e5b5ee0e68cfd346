"""The command line's connection to its user: stdin, stdout, stderr, signals."""
