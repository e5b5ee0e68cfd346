"""The peers of one test: started on request, ended with the test, and drawn if it fails."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_bowout._endings import TLSEnding
from pytest_bowout._extra import testing

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

    import trustme

    from bowout.testing import Entry, Peer, PeerRole, Script, TLSVersion
    from pytest_bowout._terminal_style import TerminalStyle

#: The largest number of connections of one peer that are drawn; the others have a line each, up to `_TOLD`.
_DRAWN: Final = 4
_TOLD: Final = 50


class TLSPeers:
    """The fixture `tls_peer`: starts any number of peers for one test.

        def test_mine(tls_peer):
            peer = tls_peer("fin_inside_record", tls="1.2")

    A peer that the test starts is ended when the test returns; a peer that a fixture starts, in the teardown. If a
    phase of the test fails, all its peers are ended, and its report shows what they saw.
    """

    def __init__(
        self,
        *,
        ca: trustme.CA,
        address: tuple[str, int],
        context: Callable[[PeerRole, TLSVersion | None], ssl.SSLContext | None],
        timeout: float,
    ) -> None:
        self._ca, self._address, self._context, self._timeout = ca, address, context, timeout
        self._running: list[Peer] = []
        self._unseen: list[Peer] = []
        self._from = 0

    def __call__(
        self,
        script: str | Entry | Script | TLSEnding,
        *,
        role: Literal["server", "client"] | None = None,
        tls: TLSVersion | Literal["any"] | None = None,
        connect_to: tuple[str, int] | None = None,
        sock: socket.socket | None = None,
        connections: int | None = 1,
        context: ssl.SSLContext | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Peer:
        """Start a peer; when this returns, it already listens or connects.

        Args:
            script: the name of an ending, an `Entry`, a function that takes an `Act`, or the value of `tls_ending`.
            role: ``"server"`` or ``"client"``; None for that of a `TLSEnding`, else a server.
            tls: the one version; None for that of a `TLSEnding`, else ``"1.3"``. ``"any"`` leaves it to the context.
            connect_to: the address to which a client connects.
            sock: a connected socket, instead of an address.
            connections: the number of connections; None for any number.
            context: a context instead of the one from the fixture `tls_peer_context`.
            timeout: seconds; None for the setting ``tls_peer_timeout``.
            options: other arguments of `bowout.testing.Peer`: ``host``, ``port``, ``server_hostname``, …

        Returns:
            The peer, as inside its ``with`` block.

        Raises:
            ValueError: there is no such ending, or not for this role and version.
        """
        __tracebackhide__ = True
        version = None if tls == "any" else tls or "1.3"
        if isinstance(script, TLSEnding):
            role, version = role or script.role, script.tls if tls is None else version
            script = script.entry
        role = role or "server"
        options = {"host": self._address[0], "port": self._address[1], "ca": self._ca} | options
        peer = self._made(
            script,
            role=role,
            tls=version,
            connect_to=connect_to,
            sock=sock,
            connections=connections,
            context=context if context is not None else self._context(role, version),
            timeout=self._timeout if timeout is None else timeout,
            **options,
        )
        peer.__enter__()
        self._running.append(peer)
        self._unseen.append(peer)
        return peer

    def _made(self, script: Any, **arguments: Any) -> Peer:
        """Make a peer without starting it. A wrong argument raises its error at the line of the test."""
        __tracebackhide__ = True
        try:
            peer: Peer = testing().Peer(script, **arguments)
        except (TypeError, ValueError) as mistake:
            raise mistake.with_traceback(None) from None
        return peer

    # -- for the plugin ---------------------------------------------------------------------------------------------

    def call(self) -> None:
        """Mark the beginning of the test: from now on the test starts the peers, not a fixture."""
        self._from = len(self._running)

    def end_call(self, error: BaseException | None = None) -> None:
        """End the peers that the test has started; see `end`."""
        __tracebackhide__ = True
        self._end(self._from, error)

    def end(self, error: BaseException | None = None) -> None:
        """End all peers, the latest first.

        Args:
            error: the error that ended the test, if there was one; then nothing is raised.

        Raises:
            ExpectationFailed: an expectation of a script was not met. Other exceptions of a script are raised, too.
        """
        __tracebackhide__ = True
        self._end(0, error)

    def _end(self, first: int, error: BaseException | None) -> None:
        __tracebackhide__ = True
        failures: list[tuple[Peer, Exception]] = []
        while len(self._running) > first:
            peer = self._running.pop()
            try:
                peer.__exit__(type(error) if error else None, error, None)
            except Exception as stopped:  # noqa: BLE001  (raised below, when no peer is left)
                failures.append((peer, stopped))
        if not failures or error is not None:
            return
        peer, failure = failures[-1]  # the failure of the peer that was started first
        failure.add_note(f"in the script of the TLS peer {peer.name}")
        for other, also in failures[:-1]:
            failure.add_note(f"and in that of {other.name}: {type(also).__name__}: {also}")
        raise failure.with_traceback(_of_the_script(failure.__traceback__))

    def sections(self, style: TerminalStyle, error: BaseException | None) -> Iterator[tuple[str, str]]:
        """End the running peers, and yield the title and text of each new report; no report is yielded twice."""
        self.end(error or AssertionError("the test has failed"))
        unseen, self._unseen = self._unseen, []
        for peer in unseen:
            for report in peer.reports[:_DRAWN]:
                number = f" #{report.number}" if report.number else ""
                ladder = report.ladder(width=style.width, unicode=style.unicode)
                yield f"TLS peer {peer.name}{number}", f"{report}\n\n{ladder}"
            more = peer.reports[_DRAWN:]
            if more:
                lines = [str(report) for report in more[:_TOLD]]
                rest = [f"and {len(more) - _TOLD:,} more"] if len(more) > _TOLD else []
                yield f"TLS peer {peer.name}, further connections", "\n".join([*lines, *rest])


def _of_the_script(traceback: TracebackType | None) -> TracebackType | None:
    """Return only the user's own frames, so that the error is at the line of the script; all, if there are none."""
    kit = Path(testing().__file__ or "").parent
    own = (kit, Path(__file__).parent)
    frames = []
    entry = traceback
    while entry is not None:
        if Path(entry.tb_frame.f_code.co_filename).parent not in own:
            frames.append(entry)
        entry = entry.tb_next
    kept = None
    for entry in reversed(frames):
        kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept if kept is not None else traceback
