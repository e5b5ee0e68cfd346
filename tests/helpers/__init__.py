"""What several test files need: peers, runners of the backends, and the guard against leaks."""
