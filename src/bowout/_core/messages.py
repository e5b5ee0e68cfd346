"""The one place that touches private attributes of the standard library's ssl.

OpenSSL can report every handshake message and alert of a connection, both ways. CPython has had that hook since 3.8 as
``SSLContext._msg_callback``, without documenting it. Here it is used where it is, and done without where it is not:
then an ending knows fatal alerts by the exceptions that they cause, and warnings, tickets and key updates go unnamed.

The attribute of the C base class is set directly, since the Python property around it turns every argument into an
enum, for every record: a third of the cost of a bulk transfer, measured.
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ALERT: Final = 21
HANDSHAKE: Final = 22
_NOTED: Final = frozenset({ALERT, HANDSHAKE})

#: The C base class gives an int, where the Python property takes as long as all the rest to make an enum of it.
_OPTIONS: Final[Any] = ssl.SSLContext.__mro__[1].__dict__["options"]
_KEPT_OPTIONS: Final = ~int(getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0))
_ADDED_OPTIONS: Final = int(ssl.OP_NO_RENEGOTIATION)

_HOOK: Final = "_msg_callback"
_INBOX: Final = "_bowout_inbox"


class Inbox:
    """What OpenSSL reports of one connection while it runs, to be looked at when it has returned.

    Nothing is done about a message within OpenSSL's call: an exception raised there, by a signal handler for example,
    would vanish behind OpenSSL's own.

    Attributes:
        every: keep every handshake message, and not only those that come after a handshake (`KEPT`).
        messages: each with its direction (True: outgoing), its content type (ALERT or HANDSHAKE) and its bytes.
        raised: what a callback of ours caught within OpenSSL's call, to be raised after it.
    """

    __slots__ = ("every", "messages", "raised")

    def __init__(self) -> None:
        self.every = False
        self.messages: list[tuple[bool, int, bytes]] = []
        self.raised: BaseException | None = None


def _dispatcher(previous: Callable[..., Any] | None) -> Callable[..., None]:
    """Make the context's callback: it fills the connection's inbox, and calls the callback that was there before.

    OpenSSL calls it for the header of every record, too, and a function is called faster than an object.
    """

    def dispatch(  # noqa: PLR0917  (CPython calls it like this)
        conn: Any, direction: str, version: int, content_type: int, msg_type: int, data: bytes
    ) -> None:
        if (
            content_type in _NOTED
            and (inbox := getattr(conn, _INBOX, None)) is not None
            and (content_type == ALERT or msg_type in KEPT or inbox.every)
        ):
            inbox.messages.append((direction == "write", content_type, data))
        if previous is not None:
            previous(conn, direction, version, content_type, msg_type, data)

    # What the property of ssl.SSLContext returns to somebody who asks for the callback.
    dispatch.user_function = getattr(previous, "user_function", previous)  # type: ignore[attr-defined]
    return dispatch


def watch(context: ssl.SSLContext) -> bool:
    """Have `context` report messages, once, keeping any callback that it has; tell whether it can."""
    slot = getattr(ssl.SSLContext.__mro__[1], _HOOK, None)
    if slot is None:
        return False
    try:
        previous = slot.__get__(context)
        if getattr(previous, "__module__", None) != __name__:
            slot.__set__(context, _dispatcher(previous))
    except (AttributeError, TypeError):
        return False
    return True


def attach(tls: ssl.SSLObject) -> Inbox:
    """Have the messages of `tls` collected."""
    inbox = Inbox()
    setattr(tls, _INBOX, inbox)
    return inbox


def hand_on(tls: ssl.SSLObject | ssl.SSLSocket, error: BaseException) -> None:
    """Keep `error`, which was raised in a callback, for the caller of OpenSSL; the standard library would drop it."""
    inbox = getattr(tls, _INBOX, None)
    if inbox is not None:
        inbox.raised = error


def raised_within(error: ssl.SSLError) -> BaseException | None:
    """Tell what was raised by code that ran within OpenSSL's call, such as a signal handler; None where nothing was.

    Where OpenSSL's call failed, too, CPython keeps it as the context of `error` only. To be asked when `error` is not
    being handled any more: without such an exception, the context is what the caller is handling, if anything.
    """
    context = error.__context__
    return None if context is sys.exc_info()[1] else context


def prepare(context: ssl.SSLContext) -> None:
    """Make `context` fit for endings, a caller's own context too.

    * ``OP_IGNORE_UNEXPECTED_EOF`` is cleared: where a build sets it, a truncation would read as a clean end.
    * ``OP_NO_RENEGOTIATION`` is set: a renegotiation in TLS 1.2 makes a write want a read, and a close fail.
    * The message hook is installed, in front of one that is there.
    """
    options: int = _OPTIONS.__get__(context)
    wanted = options & _KEPT_OPTIONS | _ADDED_OPTIONS
    if options != wanted:  # It may be in use in another thread.
        context.options = ssl.Options(wanted)
    watch(context)


#: RFC 8446 section 4 and RFC 5246 section 7.4; for traces.
HANDSHAKE_NAMES: Final = {
    0: "HelloRequest",
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    5: "EndOfEarlyData",
    8: "EncryptedExtensions",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
    22: "CertificateStatus",
    24: "KeyUpdate",
}
NEW_SESSION_TICKET: Final = 4
KEY_UPDATE: Final = 24
#: Messages that may come at any time, and that an ending tells of.
KEPT: Final = frozenset({NEW_SESSION_TICKET, KEY_UPDATE})
