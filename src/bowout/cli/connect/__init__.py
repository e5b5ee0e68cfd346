"""``bowout connect``: a conversation with a server."""
