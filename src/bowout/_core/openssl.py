"""OpenSSL between two MemoryBIOs: its calls, and the messages and exceptions that occur during them."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

from bowout import _lane
from bowout._core import hook
from bowout.ending import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.hook import Inbox


class OpenSSL:
    """One connection's `ssl.SSLObject`.

    Args:
        context: already `prepared <bowout._core.hook.prepare>`.
        role: our part in the handshake.
        server_hostname: the name for SNI and for checking the certificate; clients only.
        session: the session of an earlier connection with this context, to resume; clients only.
        on_message: called with each handshake message and alert, after the OpenSSL call in which it passed.

    Attributes:
        tls: the `ssl.SSLObject`. Each direction calls its ``read`` and ``write`` itself.
        incoming, outgoing: its BIOs.
        inbox: the messages that it has reported and that are not processed yet.
        lane: the lane in C, not entered; None if there is none.
        handed_on: the last exception, raised by a signal handler for example, after which the state is still
            consistent; any other exception from a call may have occurred at any point.
    """

    __slots__ = ("_on_message", "handed_on", "inbox", "incoming", "lane", "outgoing", "tls")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        role: Role,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
        on_message: Callable[..., None],
    ) -> None:
        self.incoming: ssl.MemoryBIO = ssl.MemoryBIO()
        self.outgoing: ssl.MemoryBIO = ssl.MemoryBIO()
        wrap = partial(
            context.wrap_bio,
            self.incoming,
            self.outgoing,
            server_side=role is Role.SERVER,
            server_hostname=server_hostname,
            session=session,
        )
        self.tls: ssl.SSLObject
        self.lane: Any = None
        if _lane.native is not None and hook.reports_to_us_alone(context):
            self.tls, self.lane = _lane.native.open(wrap, self.incoming)
        else:
            self.tls = wrap()
        self.inbox: Inbox = hook.attach(self.tls)
        if self.lane is not None:
            self.lane.report(self.inbox.messages)
        self.handed_on: BaseException | None = None
        self._on_message = on_message

    def call(self, call: Callable[[], object]) -> ssl.SSLError | None:
        """Run `call` of OpenSSL, process what it reports meanwhile, and return its error, if any.

        An exception that a signal handler or a callback raised meanwhile is kept for `raise_what_came`: the effect of
        OpenSSL's call must be processed first.
        """
        error: ssl.SSLError | None = None
        try:
            call()
        except ssl.SSLError as met:
            error = met
            error.__traceback__ = None  # Break the reference cycle: its frame, this one, refers to the error.
        except BaseException as met:  # noqa: BLE001  (see above)
            self.inbox.raised = met
        if self.inbox.messages:
            self.hear()
        return error

    def report_every_message(self, *, every: bool) -> None:
        """Report every handshake message, or only those that the timeline keeps."""
        self.inbox.every = every
        if self.lane is not None:
            self.lane.report_every(every)

    def hear(self) -> None:
        """Process the messages that OpenSSL has reported."""
        messages = self.inbox.messages
        while messages:
            outgoing, content_type, data = messages.pop(0)
            self._on_message(outgoing=outgoing, content_type=content_type, data=data)

    def raise_what_came(self, error: ssl.SSLError | None) -> None:
        """Raise what a signal handler or a callback raised during OpenSSL's call, after `error` has been processed."""
        raised, self.inbox.raised = self.inbox.raised, None
        if raised is None and error is not None and error.__context__ is not None:
            raised = hook.raised_within(error)
        if raised is not None:
            self.handed_on = raised
            raise raised
