"""The check of one endpoint: its probes in their order, within their time, and a finding for each."""

from __future__ import annotations

import importlib.util
import ssl
import time
from dataclasses import replace
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
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from bowout import StartTLSName
    from bowout._backends import Backend
    from bowout.check._judge import Run

    Probe = Callable[[Check], Awaitable[list[Run]]]

#: The probes, in the order of a report.
PROBES: Final = (
    *POLITE,
    "idle",
    "in-flight",
    "unread-input",
    "bad-record",
    "fatal-alert",
    "close-in-handshake",
)
#: The polite probes, which are made by default.
POLITE_PROBES: Final = tuple(POLITE)
#: Errors after which another connection would fail as well.
_HOPELESS: Final = (ConnectError, StartTLSError)
_NOT_IN_TIME: Final = "it was not done in time"
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
    probes: Iterable[str] = POLITE_PROBES,
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
        probes: names of the polite probes to make, in the order of `PROBES`; all of them by default. ``"half-close"``
            needs ``"reply-end"`` to compare with.
        idle: how long, in seconds, to leave one more connection idle beside the others, to see how the server ends it.
        large: the path, in HTTP, of an answer of 8 MiB or more, with a declared length. It allows two more probes,
            which transfer it twice.
        intrusive: whether to send illegal records, too; only for your own servers. It needs the package cryptography.
            The context's key log goes to a temporary file meanwhile.
        timeout: seconds for all polite probes together; those for which no time is left are UNKNOWN. Above 10 s, the
            waits of each probe, 3 s by default, are longer in proportion. Each optional probe has a limit of its own.
        connect: opens one connected socket or other byte stream, as `bowout.wrap` takes, for each probe.
        on_finding: called with each finding as soon as it is there.

    Returns:
        The report, also if nothing could be probed: its findings are then UNKNOWN.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing was opened.
        ModuleNotFoundError: `intrusive` without cryptography; nothing was opened.

    Cancelling it closes the connection of the probe in progress; there is no report then.
    """
    polite = _checked_probes(probes)
    _check_arguments(protocol, send=send, expect=expect, large=large, on_finding=on_finding, connect=connect)
    check_flag("intrusive", intrusive)
    plan, options = planned(
        host, port, over=None, starttls=starttls, starttls_name=starttls_name, local_address=None,
        happy_eyeballs_delay=0.25, connect_timeout=3.0, context=context, server_hostname=server_hostname, alpn=None,
    )  # fmt: skip
    if not isinstance(options.context, ssl.SSLContext):
        raise TypeError(f"context must be an ssl.SSLContext, not {type(options.context).__name__}")
    pace = Pace.within(checked_duration("timeout", timeout))
    if intrusive and importlib.util.find_spec("cryptography") is None:
        raise ModuleNotFoundError("intrusive probes need the package cryptography: pip install 'bowout[testing]'")
    spoken = default_protocol(starttls) if protocol is None else protocol
    backend = _backends.current()
    talk = conversation(
        spoken,
        host=server_hostname or host,
        port=port,
        starttls=starttls,
        agent=f"bowout-check/{bowout.__version__}",
        send=send,
        expect=expect,
    )
    shared = Check(
        Opener(backend, plan, options, connect=connect, pace=pace),
        talk,
        large=large,
        idle=None if idle is None else checked_duration("idle", idle),
    )
    return await Checking(backend, shared, on_finding, polite).report(
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


def _checked_probes(probes: Iterable[str]) -> list[str]:
    """Return the polite probes in their order.

    Raises:
        TypeError, ValueError: there are none, or another name.
    """
    if isinstance(probes, str):
        raise TypeError(f"probes must be several names, not a str: write [{probes!r}]")
    wanted = set(probes)
    for name in wanted:
        check_choice("probes", name, POLITE_PROBES)
    if not wanted:
        raise ValueError("probes is empty: name one at least")
    return [name for name in POLITE if name in wanted]


def _is_target(path: str) -> bool:
    return path.isascii() and path.isprintable() and " " not in path


class Checking:
    """The course of one check: it makes each probe, and turns what it saw, or its failure, into a finding."""

    def __init__(
        self,
        backend: Backend,
        check: Check,
        on_finding: Callable[[Finding], object] | None,
        polite: Sequence[str] = tuple(POLITE),
    ) -> None:
        self._backend = backend
        self._check = check
        self._on_finding = on_finding
        self._polite = polite
        self._openers = [check.opener]
        self._findings: list[Finding] = []
        #: Why no connection can be made: then no other probe tries it again.
        self._unreachable: BowoutError | None = None

    async def report(self, *, endpoint: str, starttls: str | None, intrusive: bool) -> Report:
        """Make all probes; return the report."""
        began, start = time.time(), self._backend.time()
        if self._check.idle is None:
            await self._one_by_one(start, intrusive=intrusive)
        else:
            await self._beside_idle(start, intrusive=intrusive)
        opener = self._check.opener
        return Report(
            endpoint=endpoint,
            address=opener.address,
            starttls=starttls,
            protocol=self._check.talk.protocol,
            tls=opener.tls,
            began=began,
            seconds=self._backend.time() - start,
            connections=sum(each.connections for each in self._openers),
            tool=f"bowout {bowout.__version__}",
            findings=tuple(sorted(self._findings, key=lambda each: PROBES.index(each.probe))),
        )

    async def _beside_idle(self, start: float, *, intrusive: bool) -> None:
        """Make all probes, with one idle connection beside them as soon as it is known that one can be made."""
        try:
            async with self._backend.task_group() as tasks:
                await self._one_by_one(start, intrusive=intrusive, after_first=lambda: tasks.start(self._idle))
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _one_by_one(
        self, start: float, *, intrusive: bool, after_first: Callable[[], object] | None = None
    ) -> None:
        total = self._check.pace.total
        for name in self._polite:
            await self._make(self._check, name, POLITE[name], start + total, f"no time was left of {total:g} s")
            if after_first is not None:
                after_first()
                after_first = None
        for name, probe in self._optional(intrusive=intrusive):
            await self._make(self._check, name, probe, self._backend.time() + self._longest(), _NOT_IN_TIME)

    async def _idle(self) -> None:
        beside = replace(self._check, opener=self._check.opener.sibling())
        self._openers.append(beside.opener)
        assert beside.idle is not None, "asked for only where there is a time"
        await self._make(beside, "idle", probe_idle, self._backend.time() + beside.idle + self._longest(), _NOT_IN_TIME)

    def _optional(self, *, intrusive: bool) -> Iterable[tuple[str, Probe]]:
        """Yield the probes that were asked for, but the one that waits beside the others."""
        if self._check.large is not None:
            yield from LARGE_ANSWER.items()
        if intrusive:
            from bowout.check._intrusive import INTRUSIVE  # noqa: PLC0415  (its cryptography is an extra)

            yield from INTRUSIVE.items()

    def _longest(self) -> float:
        """Return the time, in seconds, after which an optional probe is over in any case."""
        pace = self._check.pace
        return pace.opening + pace.large + 4 * pace.connection

    async def _make(self, check: Check, name: str, probe: Probe, deadline: float, late: str) -> None:
        """Make one probe, and add its finding."""
        start = self._backend.time()
        finding = None
        if self._unreachable is not None:
            finding = _unknown(name, self._unreachable)
        elif start < deadline:
            try:
                async with self._backend.move_on_at(deadline):
                    finding = await self._try(check, name, probe, start)
            finally:
                check.opener.abandon()
        if finding is None:
            finding = Finding(
                probe=name, verdict=Verdict.UNKNOWN, says=f"TimedOut: {late}", seconds=self._backend.time() - start
            )
        self._findings.append(finding)
        if self._on_finding is not None:
            self._on_finding(finding)

    async def _try(self, check: Check, name: str, probe: Probe, start: float) -> Finding:
        try:
            runs = await probe(check)
        except (BowoutError, OSError) as error:
            hopeless = isinstance(error, _HOPELESS) or not self._findings
            # One more connection at the same time may be refused where the next one alone is not.
            if isinstance(error, BowoutError) and hopeless and check is self._check:
                self._unreachable = error
            return _unknown(name, error, self._backend.time() - start)
        except (LookupError, ValueError) as error:  # A suite, or a key log, that scripted records cannot have.
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
