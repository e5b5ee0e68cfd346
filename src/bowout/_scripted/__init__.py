"""A TLS connection that can break the rules, sans-IO. It needs the packages of the extra `testing`."""
