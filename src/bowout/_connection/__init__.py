"""One TLS connection: its bytes, its verbs, and its ways to end."""
