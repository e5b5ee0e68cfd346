"""The only module that sets private attributes of the standard library's ssl; `chain` only reads some.

OpenSSL can report every handshake message and alert of a connection, both ways. CPython has had that hook since 3.8 as
``SSLContext._msg_callback``, without documenting it. It is used if it exists. Without it, an ending knows fatal alerts
only by the exceptions that they cause, and does not report warnings, tickets and key updates.

The attribute of the C base class is set directly, since the Python property around it turns every argument into an
enum, for every record: a third of the cost of a bulk transfer, measured.
"""

from __future__ import annotations

import ssl
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from bowout._tls_numbers import ALERT, HANDSHAKE, KEY_UPDATE, NEW_SESSION_TICKET

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTED: Final = frozenset({ALERT, HANDSHAKE})
#: Messages that may come at any time, and that an ending reports.
KEPT: Final = frozenset({NEW_SESSION_TICKET, KEY_UPDATE})

#: The class written in C under the standard library's class; ``truststore.inject_into_ssl()`` replaces the latter.
BASE: Final[Any] = next(kind for kind in ssl.SSLContext.__mro__ if kind.__module__ == "_ssl")
_STANDARD: Final[Any] = ssl.SSLContext.__mro__[ssl.SSLContext.__mro__.index(BASE) - 1]

#: The C base class returns an int; the Python property makes an enum of it, which takes as long as all the rest.
OPTIONS: Final[Any] = BASE.__dict__["options"]
_KEPT_OPTIONS: Final = ~int(getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0))
_ADDED_OPTIONS: Final = int(ssl.OP_NO_RENEGOTIATION)

HOOK: Final = "_msg_callback"
_INBOX: Final = "_bowout_inbox"
#: Contexts that wrap another one, and the wrapped one. Finding it may load the system's trust store again.
_wrapped: weakref.WeakKeyDictionary[ssl.SSLContext, weakref.ref[ssl.SSLContext]] = weakref.WeakKeyDictionary()


class Inbox:
    """The messages that OpenSSL reports of one connection during a call, to be processed after the call.

    No message is processed within OpenSSL's call: an exception raised there, by a signal handler for example, would be
    lost behind OpenSSL's own.

    Attributes:
        every: whether to keep every handshake message, not only those that come after a handshake (`KEPT`).
        messages: each message with its direction (True: outgoing), its content type (ALERT or HANDSHAKE) and its bytes.
        raised: the exception that our callback caught within OpenSSL's call, to be raised after it.
    """

    __slots__ = ("every", "messages", "raised")

    def __init__(self) -> None:
        self.every: bool = False
        self.messages: list[tuple[bool, int, bytes]] = []
        self.raised: BaseException | None = None


def _dispatcher(previous: Callable[..., Any] | None) -> Callable[..., None]:
    """Make the context's callback: it fills the connection's inbox, and calls the callback that was installed before.

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

    dispatch.previous = previous  # type: ignore[attr-defined]
    # The callback property of ssl.SSLContext returns this attribute.
    dispatch.user_function = getattr(previous, "user_function", previous)  # type: ignore[attr-defined]
    return dispatch


def watch(context: ssl.SSLContext) -> bool:
    """Make `context` report messages, once, and keep its callback, if any; tell whether that is possible."""
    slot = getattr(BASE, HOOK, None)
    if slot is None:
        return False
    try:
        previous = slot.__get__(context)
        if getattr(previous, "__module__", None) != __name__:
            slot.__set__(context, _dispatcher(previous))
    except (AttributeError, TypeError):
        return False
    return True


def reports_to_us_alone(context: ssl.SSLContext) -> bool:
    """Tell whether nobody but us gets the messages of `context`, which is prepared: then C may filter them."""
    slot = getattr(BASE, HOOK, None)
    callback = None if slot is None else slot.__get__(underlying(context))
    return getattr(callback, "__module__", None) == __name__ and getattr(callback, "previous", None) is None


def attach(tls: ssl.SSLObject) -> Inbox:
    """Collect the messages of `tls` in an inbox."""
    inbox = Inbox()
    setattr(tls, _INBOX, inbox)
    return inbox


def hand_on(tls: ssl.SSLObject | ssl.SSLSocket, error: BaseException) -> bool:
    """Keep `error`, which was raised in a callback, for the caller of OpenSSL; the standard library would drop it.

    Returns:
        False if the connection is not ours, so that the error would never be raised.
    """
    inbox = getattr(tls, _INBOX, None)
    if inbox is None:
        return False
    inbox.raised = error
    return True


def raised_within(error: ssl.SSLError) -> BaseException | None:
    """Return the exception of code that ran within OpenSSL's call, such as a signal handler; None if there is none.

    If OpenSSL's call failed, too, CPython keeps that exception only as the context of `error`. Call this when `error`
    is not being handled any more: without such an exception, the context is the exception that the caller is handling,
    if any.
    """
    context = error.__context__
    return None if context is sys.exc_info()[1] else context


def underlying(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context that OpenSSL uses: `context`, or the one that it wraps (truststore's do, and pip's).

    A wrapping context is an ``ssl.SSLContext`` with a C object of its own, which OpenSSL never uses.
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
    except Exception:  # noqa: BLE001  (the connection itself will raise and report it)
        return context
    return found if isinstance(found, BASE) else context


def prepare(context: ssl.SSLContext) -> None:
    """Prepare `context` for endings; it may be the caller's own, and one that wraps another.

    * ``OP_IGNORE_UNEXPECTED_EOF`` is cleared: if a build sets it, a truncation would look like a clean end.
    * ``OP_NO_RENEGOTIATION`` is set: a renegotiation in TLS 1.2 makes a write need a read, and a close fail.
    * The message hook is installed; it calls the existing one.
    """
    context = underlying(context)
    options: int = OPTIONS.__get__(context)
    wanted = options & _KEPT_OPTIONS | _ADDED_OPTIONS
    if options != wanted:  # The context may be in use in another thread.
        OPTIONS.__set__(context, wanted)  # A property of a subclass might not pass it on.
    watch(context)
