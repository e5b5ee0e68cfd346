"""The check of one endpoint: its probes in their order, within their time, and a finding for each."""

from __future__ import annotations

import importlib.util
import ssl
import time
from typing import TYPE_CHECKING, Any, Final, get_args

import bowout
from bowout import _backends
from bowout._arguments import check_callable, check_choice, check_flag, checked_bytes, checked_duration
from bowout._client import planned
from bowout._names import host_port
from bowout._text import escape
from bowout.check import _judge
from bowout.check._model import Finding, Report, Verdict
from bowout.check._opener import Opener, Pace
from bowout.check._probes import LARGE_ANSWER, POLITE, Check
from bowout.check._probes import idle as probe_idle
from bowout.check._protocols import ProtocolName, conversation, default_protocol
from bowout.errors import BowoutError, ConnectError, StartTLSError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from bowout import StartTLSName
    from bowout._backends import Backend
    from bowout.check._judge import Run

    Probe = Callable[[Check], Awaitable[list[Run]]]

#: The probes, in the order of a report.
PROBES: Final = (
    "reply-end",
    "answers",
    "half-close",
    "tcp-after",
    "bare-fin",
    "refusal",
    "idle",
    "in-flight",
    "unread-input",
    "bad-record",
    "fatal-alert",
    "close-in-handshake",
)
#: Errors after which another connection would fail as well.
_HOPELESS: Final = (ConnectError, StartTLSError)
#: Longest text of an error in a finding, in characters: it may quote the server.
_LONGEST: Final = 300


async def check(
    host: str,
    port: int = 443,
    *,
    protocol: ProtocolName | None = None,
    starttls: StartTLSName | None = None,
    starttls_name: str | None = None,
    context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    send: bytes | None = None,
    expect: bytes | None = None,
    idle: float | None = None,
    large: str | None = None,
    intrusive: bool = False,
    timeout: float = 10.0,
    connect: Callable[[], Awaitable[Any]] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> Report:
    r"""Probe how an endpoint ends its TLS connections.

        report = await bowout.check.check("example.org")

    By default the probes are polite: 8 connections at most, one after the other, each with a request that any client
    could send. It works on asyncio, uvloop and trio.

    Args:
        host: name or address of the endpoint.
        port: its TCP port.
        protocol: what to speak over TLS. ``"raw"``: only `send`. None: the protocol of `starttls`, if that is one of
            these, or else ``"raw"``; ``"http"`` without `starttls`.
        starttls: the protocol in which to request TLS, as for `bowout.connect`.
        starttls_name: the name to send in it.
        context: the context for TLS; None for the system's trust. It has to be an `ssl.SSLContext` itself.
        server_hostname: as for `bowout.connect`.
        send: for ``"raw"``: a request after whose answer the server ends the connection.
        expect: for ``"raw"``: what a complete answer contains.
        idle: how long, in seconds, to leave one more connection idle, to see how the server ends it. It begins when the
            polite probes are done.
        large: the path, in HTTP, of an answer of 8 MiB or more, with a declared length. It allows two more probes,
            which transfer it twice.
        intrusive: whether to send illegal records, too; only for your own servers. It needs the package cryptography.
            The context's key log goes to a temporary file meanwhile.
        timeout: seconds for all polite probes together; those for which no time is left are UNKNOWN. Each optional
            probe has a limit of its own.
        connect: opens one connected socket or other byte stream, as `bowout.wrap` takes, for each probe.
        on_finding: called with each finding as soon as it is there.

    Returns:
        The report, also if nothing could be probed: its findings are then UNKNOWN.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing was opened.
        ModuleNotFoundError: `intrusive` without cryptography; nothing was opened.

    Cancelling it closes the connection of the probe in progress; there is no report then.
    """
    _check_arguments(protocol, send=send, expect=expect, large=large, on_finding=on_finding, connect=connect)
    check_flag("intrusive", intrusive)
    plan, options = planned(
        host, port, over=None, starttls=starttls, starttls_name=starttls_name, local_address=None,
        happy_eyeballs_delay=0.25, connect_timeout=3.0, context=context, server_hostname=server_hostname, alpn=None,
    )  # fmt: skip
    if not isinstance(options.context, ssl.SSLContext):
        raise TypeError(f"context must be an ssl.SSLContext, not {type(options.context).__name__}")
    pace = Pace(total=checked_duration("timeout", timeout))
    if intrusive and importlib.util.find_spec("cryptography") is None:
        raise ModuleNotFoundError("intrusive probes need the package cryptography: pip install 'bowout[testing]'")
    spoken = default_protocol(starttls) if protocol is None else protocol
    backend = _backends.current()
    talk = conversation(
        spoken, host=host, port=port, starttls=starttls, agent=f"bowout-check/{bowout.__version__}", send=send,
        expect=expect,
    )  # fmt: skip
    probes = Check(
        Opener(backend, plan, options, connect=connect, pace=pace),
        talk,
        large=large,
        idle=None if idle is None else checked_duration("idle", idle),
    )
    return await Checking(backend, probes, on_finding).report(
        endpoint=host_port(host, port), starttls=starttls, intrusive=intrusive
    )


def _check_arguments(protocol: Any, *, send: Any, expect: Any, large: Any, on_finding: Any, connect: Any) -> None:
    """Raise TypeError or ValueError for an argument that cannot be meant."""
    if protocol is not None:
        check_choice("protocol", protocol, get_args(ProtocolName))
    for name, data in (("send", send), ("expect", expect)):
        if data is not None:
            checked_bytes(name, data)
            if protocol not in {None, "raw"}:
                raise ValueError(f'{name} is for protocol="raw": {protocol} has a request of its own')
    if large is not None and not (isinstance(large, str) and large.startswith("/") and _is_target(large)):
        raise ValueError(f"large must be a path that begins with / and has no spaces, not {large!r}")
    check_callable("on_finding", on_finding)
    check_callable("connect", connect)


def _is_target(path: str) -> bool:
    return path.isascii() and path.isprintable() and " " not in path


class Checking:
    """The course of one check: it makes each probe, and turns what it saw, or its failure, into a finding."""

    def __init__(self, backend: Backend, check: Check, on_finding: Callable[[Finding], object] | None) -> None:
        self._backend = backend
        self._check = check
        self._on_finding = on_finding
        self._findings: list[Finding] = []
        #: Why no connection can be made: then no other probe tries it again.
        self._unreachable: BowoutError | None = None

    async def report(self, *, endpoint: str, starttls: str | None, intrusive: bool) -> Report:
        """Make all probes; return the report."""
        began, start = time.time(), self._backend.time()
        total = self._check.pace.total
        for name, probe in POLITE.items():
            await self._make(name, probe, start + total, f"no time was left of {total:g} s")
        for name, probe in self._optional(intrusive=intrusive):
            await self._make(name, probe, self._backend.time() + self._longest(), "it was not done in time")
        opener = self._check.opener
        return Report(
            endpoint=endpoint,
            address=opener.address,
            starttls=starttls,
            protocol=self._check.talk.protocol,
            tls=opener.tls,
            began=began,
            seconds=self._backend.time() - start,
            connections=opener.connections,
            tool=f"bowout {bowout.__version__}",
            findings=tuple(self._findings),
        )

    def _optional(self, *, intrusive: bool) -> Iterable[tuple[str, Probe]]:
        """Yield the probes that were asked for."""
        if self._check.idle is not None:
            yield "idle", probe_idle
        if self._check.large is not None:
            yield from LARGE_ANSWER.items()
        if intrusive:
            from bowout.check._intrusive import INTRUSIVE  # noqa: PLC0415  (its cryptography is an extra)

            yield from INTRUSIVE.items()

    def _longest(self) -> float:
        """Return the time, in seconds, after which an optional probe is over in any case."""
        pace = self._check.pace
        return (self._check.idle or 0.0) + pace.large + 4 * pace.connection

    async def _make(self, name: str, probe: Probe, deadline: float, late: str) -> None:
        """Make one probe, and add its finding."""
        start = self._backend.time()
        finding = None
        if self._unreachable is not None:
            finding = _unknown(name, self._unreachable)
        elif start < deadline:
            try:
                async with self._backend.move_on_at(deadline):
                    finding = await self._try(name, probe, start)
            finally:
                self._check.opener.abandon()
        if finding is None:
            finding = Finding(
                probe=name, verdict=Verdict.UNKNOWN, says=f"TimedOut: {late}", seconds=self._backend.time() - start
            )
        self._findings.append(finding)
        if self._on_finding is not None:
            self._on_finding(finding)

    async def _try(self, name: str, probe: Probe, start: float) -> Finding:
        try:
            runs = await probe(self._check)
        except (BowoutError, OSError, ValueError) as error:  # ValueError: a suite that scripted records cannot have.
            if isinstance(error, ConnectError | StartTLSError) or (
                isinstance(error, BowoutError) and not self._findings
            ):
                self._unreachable = error
            return _unknown(name, error, self._backend.time() - start)
        return _judge.finding(name, runs, self._backend.time() - start)


def _unknown(probe: str, error: Exception, seconds: float = 0.0) -> Finding:
    """Make the finding of a probe that failed: its row is never missing."""
    text = error.strerror if isinstance(error, ConnectError) and error.strerror else str(error)
    return Finding(
        probe=probe,
        verdict=Verdict.UNKNOWN,
        says=f"{type(error).__name__}: {escape(text)[:_LONGEST]}",
        seconds=seconds,
        facts={"error": type(error).__name__},
        ending=error.ending if isinstance(error, BowoutError) else None,
    )
