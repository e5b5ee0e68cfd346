"""The one place that touches private attributes of the standard library's ssl, beside `chain`, which only looks.

OpenSSL can report every handshake message and alert of a connection, both ways. CPython has had that hook since 3.8 as
``SSLContext._msg_callback``, without documenting it. Here it is used where it is, and done without where it is not:
then an ending knows fatal alerts by the exceptions that they cause, and warnings, tickets and key updates go unnamed.

The attribute of the C base class is set directly, since the Python property around it turns every argument into an
enum, for every record: a third of the cost of a bulk transfer, measured.
"""

from __future__ import annotations

import ssl
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ALERT: Final = 21
HANDSHAKE: Final = 22
_NOTED: Final = frozenset({ALERT, HANDSHAKE})

#: What is written in C, and the class of the standard library above it; ``truststore.inject_into_ssl()`` puts another
#: one into its place.
BASE: Final[Any] = next(kind for kind in ssl.SSLContext.__mro__ if kind.__module__ == "_ssl")
_STANDARD: Final[Any] = ssl.SSLContext.__mro__[ssl.SSLContext.__mro__.index(BASE) - 1]

#: The C base class gives an int, where the Python property takes as long as all the rest to make an enum of it.
_OPTIONS: Final[Any] = BASE.__dict__["options"]
_KEPT_OPTIONS: Final = ~int(getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0))
_ADDED_OPTIONS: Final = int(ssl.OP_NO_RENEGOTIATION)

_HOOK: Final = "_msg_callback"
_INBOX: Final = "_bowout_inbox"
#: Of contexts that wrap one: which. Finding it may have them load the system's trust again.
_wrapped: weakref.WeakKeyDictionary[ssl.SSLContext, weakref.ref[ssl.SSLContext]] = weakref.WeakKeyDictionary()


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
    slot = getattr(BASE, _HOOK, None)
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


def hand_on(tls: ssl.SSLObject | ssl.SSLSocket, error: BaseException) -> bool:
    """Keep `error`, which was raised in a callback, for the caller of OpenSSL; the standard library would drop it.

    Returns:
        False where the connection is not ours, and nobody would raise it.
    """
    inbox = getattr(tls, _INBOX, None)
    if inbox is None:
        return False
    inbox.raised = error
    return True


def raised_within(error: ssl.SSLError) -> BaseException | None:
    """Tell what was raised by code that ran within OpenSSL's call, such as a signal handler; None where nothing was.

    Where OpenSSL's call failed, too, CPython keeps it as the context of `error` only. To be asked when `error` is not
    being handled any more: without such an exception, the context is what the caller is handling, if anything.
    """
    context = error.__context__
    return None if context is sys.exc_info()[1] else context


def underlying(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context in which OpenSSL looks: `context` itself, or the one that it wraps (truststore's do, and pip's).

    Such a context is a ``ssl.SSLContext`` with a C object of its own, of which OpenSSL never hears.
    """
    if type(context).wrap_bio is _STANDARD.wrap_bio:
        return context
    known = _wrapped.get(context)
    found = known() if known is not None else None
    if found is None:
        found = _context_of_a_connection(context)
        _wrapped[context] = weakref.ref(found)
    return found


def _context_of_a_connection(context: ssl.SSLContext) -> ssl.SSLContext:
    server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
    name = None if server_side else "localhost"
    try:
        tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=server_side, server_hostname=name)
        found = tls.context
    except Exception:  # noqa: BLE001  (whatever it is, the connection itself will meet it, and say it)
        return context
    return found if isinstance(found, BASE) else context


def prepare(context: ssl.SSLContext) -> None:
    """Make `context` fit for endings, a caller's own context too, and one that wraps another.

    * ``OP_IGNORE_UNEXPECTED_EOF`` is cleared: where a build sets it, a truncation would read as a clean end.
    * ``OP_NO_RENEGOTIATION`` is set: a renegotiation in TLS 1.2 makes a write want a read, and a close fail.
    * The message hook is installed, in front of one that is there.
    """
    context = underlying(context)
    options: int = _OPTIONS.__get__(context)
    wanted = options & _KEPT_OPTIONS | _ADDED_OPTIONS
    if options != wanted:  # It may be in use in another thread.
        _OPTIONS.__set__(context, wanted)  # A property of a subclass might keep it for itself.
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
