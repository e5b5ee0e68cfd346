"""A call of the network: its timeout, and the errors that httpcore knows."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final, TypeVar

from bowout import _backends
from bowout._exception_groups import consists_of
from bowout.errors import BowoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

#: Exceptions that end the program: no close waits then.
_INTERRUPTIONS: Final = (KeyboardInterrupt, SystemExit)


@contextlib.contextmanager
def raised_as(kind: type[Exception], what: str = "") -> Iterator[None]:
    """Raise what the network raises within the block as `kind`, with the original error as its cause.

    The message is that of the error, after `what`.
    """
    try:
        yield
    except BowoutError as error:
        raise kind(f"{what}{error}") from error
    except OSError as error:
        raise kind(f"{what}{error.strerror or error}") from error


async def within(seconds: float | None, call: Callable[[], Awaitable[T]], *, late: type[Exception]) -> T:
    """Return the result of `call`, or raise `late` after `seconds`; None: without a limit."""
    if seconds is None:
        return await call()
    backend = _backends.current()
    async with backend.move_on_at(backend.time() + seconds):
        return await call()
    raise late(f"nothing happened within {seconds:g} s")


def interruption() -> BaseException | None:
    """Return the cancellation that the caller's task is handling, or another interruption; None if there is none.

    httpcore closes connections in tasks that are being cancelled, protected from that cancellation. So no await reports
    it: but it is being handled, here or further up.
    """
    error = sys.exc_info()[1]
    if error is not None and consists_of(error, (*_backends.current().cancellations, *_INTERRUPTIONS)):
        return error
    return None
