"""A misbehaving peer, in threads of its own, beside the code under test."""

from __future__ import annotations

import contextlib
import inspect
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, cast, get_args

from bowout.ending import Role
from bowout.testing import _identity
from bowout.testing._catalogue import Entry
from bowout.testing._endings import find
from bowout.testing._keylog import keylog_of
from bowout.testing._runner import PartPlayer, PeerPart

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import TracebackType

    import trustme

    from bowout.testing._catalogue import Script
    from bowout.testing._identity import TLSVersion
    from bowout.testing._opening import Opening
    from bowout.testing._report import PeerReport

_CA_FILE: Final = "ca.pem"
_DATA_CAP: Final = 1 << 20


class Peer:
    """A peer that ends its TLS connections as a script says, on loopback, in its own threads.

        with Peer("fin_inside_record") as peer:
            with pytest.raises(ssl.SSLEOFError):
                download(peer.host, peer.port, context=peer.client_context())
        assert peer.report.close_notify == 0

    The code under test may use any framework, also a blocking one. The end of the block ends the peer: it receives
    what the other side has sent by then, closes every descriptor, and ends every thread.

    Args:
        script: the name of an entry of `ENDINGS`, an entry, or a function that takes an `Act`.
        role: ``"server"``: it listens at `host` and `port`. ``"client"``: it connects to `connect_to`.
        tls: the one version of TLS that it speaks; None leaves that to `context`.
        host, port: the address of a listening server; port 0 is any free one, then found in the attribute `port`.
        connect_to: the address to which a client connects: host and port of the code under test, which listens already.
        opening: the peer's part in plain text before TLS begins, such as a server's part of STARTTLS: a function that
            takes an `Opening`. It is called on every connection, before the script.
        sock: a connected socket, for one connection of either role; from then on the peer owns it.
        connections: the number of connections that a server accepts, or a client makes, each in its own thread with the
            same script. None: a server accepts any number until the end of the block.
        context: the TLS context of the peer, instead of one with a certificate by `ca`. For the time of the block, the
            peer switches its session tickets off and sets ``keylog_filename``, from which it gets its keys. Peers may
            share a context.
        ca: the authority for the contexts; None for one that all peers of the process share.
        server_hostname: the name that a client sends by SNI.
        timeout: seconds that a connection can last, and that a peer waits for its first connection. It only ends a
            hang; a test normally takes less.
        byte_by_byte: hand all that is sent to the kernel one byte at a time.
        data_cap: the number of bytes of received data that a report keeps.

    Attributes:
        host, port: the address of a listening server; a client does not use them.
        entry: the entry of the catalogue, or None for a script of your own.

    Raises:
        ValueError: there is no such entry, or not for this role and version; or an argument is not valid.
        TypeError: the script is not a name, an `Entry` or a function.
        ExpectationFailed: at the end of the block: an ``expect_…`` of the script was not met. Other exceptions of the
            script are raised there, too. Neither replaces an error of the block.
    """

    def __init__(
        self,
        script: str | Entry | Script,
        *,
        role: Literal["server", "client"] = "server",
        tls: TLSVersion | None = "1.3",
        host: str = "127.0.0.1",
        port: int = 0,
        connect_to: tuple[str, int] | None = None,
        opening: Callable[[Opening], object] | None = None,
        sock: socket.socket | None = None,
        connections: int | None = 1,
        context: ssl.SSLContext | None = None,
        ca: trustme.CA | None = None,
        server_hostname: str = "localhost",
        timeout: float = 30.0,
        byte_by_byte: bool = False,
        data_cap: int = _DATA_CAP,
    ) -> None:
        _check_numbers(connections, timeout)
        _check_part(role, tls, context)
        if opening is not None:
            _check_callable(opening, "an opening is a function that takes an Opening")
        self.entry: Entry | None = (
            find(script) if isinstance(script, str) else script if isinstance(script, Entry) else None
        )
        if self.entry is None:
            _check_callable(script, "a script is the name of an ending, an Entry, or a function that takes an Act")
        if self.entry is not None and tls is not None:
            self.entry.expect(tls, role)
        if sock is None and (role == "client") != (connect_to is not None):
            raise ValueError("a client needs connect_to=(host, port) or sock=…, and a server has no connect_to")
        self._ca = ca if ca is not None else _identity.default_ca()
        self._context = context if context is not None else _identity.peer_context(self._ca, role, tls)
        self._connect_to, self._sock, self._connections, self._timeout = connect_to, sock, connections, timeout
        self._part = PeerPart(
            script=self.entry.script if self.entry is not None else cast("Script", script),
            opening=opening,
            name=self.entry.name if self.entry is not None else getattr(script, "__name__", "script"),
            role=Role(role),
            context=self._context,
            server_hostname=server_hostname,
            timeout=timeout,
            byte_by_byte=byte_by_byte,
            data_cap=data_cap,
        )
        self.host: str = host
        self.port: int = port
        self._runner: PartPlayer | None = None

    # -- for the code under test --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The script's name."""
        return self._part.name

    @property
    def address(self) -> tuple[str, int]:
        """Host and port at which a server listens."""
        return self.host, self.port

    def client_context(self) -> ssl.SSLContext:
        """Return a fresh context for a client under test, which trusts only the peer's authority."""
        return _identity.client_context(self._ca)

    def server_context(self) -> ssl.SSLContext:
        """Return a fresh context for a server under test, for localhost and the loopback addresses."""
        return _identity.server_context(self._ca)

    @property
    def ca_file(self) -> Path:
        """The authority's certificate as a PEM file, for clients that need a path; it exists inside the block."""
        self._entered()
        return self._folder / _CA_FILE

    # -- what it saw --------------------------------------------------------------------------------------------

    @property
    def report(self) -> PeerReport:
        """The report of the peer's first connection.

        Raises:
            RuntimeError: that connection is not over; leave the block first, or call `wait`.
        """
        reports = self.reports
        if not reports:
            raise RuntimeError("the peer is still running: leave its block first, or call wait()")
        return reports[0]

    @property
    def reports(self) -> tuple[PeerReport, ...]:
        """The reports of all connections that are over, in the order in which they were made."""
        return self._entered().reports()

    def wait(self, timeout: float | None = None) -> PeerReport:
        """Wait, in the block, until all connections are over: the script's part, and that of the code under test.

        Args:
            timeout: seconds; None for twice the peer's own.

        Returns:
            The report of the first connection.

        Raises:
            TimeoutError: they are not over by then.
            ExpectationFailed: as at the end of the block.
        """
        __tracebackhide__ = True
        runner = self._entered()
        if not runner.join(2 * self._timeout if timeout is None else timeout):
            raise TimeoutError("the peer is not done: the code under test may still be connected")
        runner.raise_failure()
        return self.report

    def go(self) -> None:
        """Let a script that waits in `Act.wait_for_go` continue."""
        self._entered().signals.go.set()

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the script calls `Act.ready`.

        Args:
            timeout: seconds; None for the peer's own.

        Raises:
            TimeoutError: the script did not call it by then.
        """
        if not self._entered().signals.ready.wait(self._timeout if timeout is None else timeout):
            raise TimeoutError("the script did not get ready")

    # -- the block ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("a Peer can be used once; make another")
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bowout-")))
            self._ca.cert_pem.write_to_path(folder / _CA_FILE)
            keylog = stack.enter_context(keylog_of(self._context))
            if self._part.role is Role.SERVER:
                self._context.num_tickets = (
                    0  # a ticket from OpenSSL would take the first sequence number of our records
                )
            runner = PartPlayer(self._part, keylog)
            stack.callback(runner.close)
            if self._sock is not None:
                runner.adopt(self._sock)
            elif self._connect_to is not None:
                runner.connect(self._connect_to, self._connections or 1)
            else:
                self.host, self.port = runner.listen(self.host, self.port, self._connections)
            self._folder, self._runner, self._stack = folder, runner, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        runner = self._entered()
        try:
            runner.end()
        finally:
            self._stack.close()
        if error is None:
            runner.raise_failure()

    def _entered(self) -> PartPlayer:
        if self._runner is None:
            raise RuntimeError("the block of the Peer was not entered")
        return self._runner


def _check_numbers(connections: int | None, timeout: float) -> None:
    if connections is not None and connections < 1:
        raise ValueError(f"connections={connections}: it must be at least one, or None for any number")
    if timeout <= 0:
        raise ValueError(f"timeout={timeout}: it must be more than 0 seconds")


def _check_part(role: str, tls: object, context: ssl.SSLContext | None) -> None:
    if role not in ("server", "client"):
        raise ValueError(f"role={role!r}: it must be 'server' or 'client'")
    if tls is not None and tls not in get_args(_identity.TLSVersion):
        raise ValueError(f"tls={tls!r}: it must be '1.2' or '1.3', or None to leave it to the context")
    wrong = {"server": ssl.PROTOCOL_TLS_CLIENT, "client": ssl.PROTOCOL_TLS_SERVER}[role]
    if context is not None and context.protocol is wrong:
        raise ValueError(f"the peer is a {role}, but its context is for {wrong.name}")


def _check_callable(function: object, what: str) -> None:
    if not callable(function):
        raise TypeError(f"{what}, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{what}, not a coroutine or a generator: it runs in its own thread, and may block")
