"""The server: accepting, serving, and ending every connection by a deadline."""
