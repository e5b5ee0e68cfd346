"""The errors of a fleet."""

from __future__ import annotations


class FleetError(Exception):
    """A fleet cannot go on.

    Attributes:
        hint: what is kept, and how to go on.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint: str = hint


class StoreError(FleetError):
    """The store cannot be read or written: another version, a full disk, a file that is gone or is no store."""
