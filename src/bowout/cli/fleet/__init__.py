"""``bowout fleet``: how many endpoints end their connections."""
