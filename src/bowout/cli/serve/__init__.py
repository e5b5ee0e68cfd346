"""``bowout serve``: a server for trying and testing."""
