"""``bowout demo``: the ways to leave a server, played end to end."""
