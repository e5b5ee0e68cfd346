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
from bowout.testing._runner import Part, Runner

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import TracebackType

    import trustme

    from bowout.testing._catalogue import Script
    from bowout.testing._identity import TLSVersion
    from bowout.testing._opening import Opening
    from bowout.testing._report import Report

_CA_FILE: Final = "ca.pem"
_DATA_CAP: Final = 1 << 20


class Peer:
    """A peer that ends its TLS connections as a script says, on loopback, in threads of its own.

        with Peer("fin_inside_record") as peer:
            with pytest.raises(ssl.SSLEOFError):
                download(peer.host, peer.port, context=peer.client_context())
        assert peer.report.close_notify == 0

    The code under test may be of any framework, synchronous too. Leaving the block ends the peer: what the other side
    has sent by then is still seen, every descriptor is closed, every thread has ended.

    Args:
        script: the name of an entry of `ENDINGS`, an entry, or a function that takes an `Act`.
        role: ``"server"``: it listens at `host` and `port`. ``"client"``: it connects to `connect_to`.
        tls: the one version of TLS that it speaks; None leaves that to `context`.
        host, port: where a server listens; port 0 is any that is free, and then the attribute `port` has it.
        connect_to: where a client connects to: host and port of the code under test, which listens already.
        opening: what the peer says in plain before TLS begins, such as a server's part of STARTTLS: a function that
            takes an `Opening`. It is called on every connection, before the script.
        sock: a connected socket, for one connection of either role; it is the peer's from then on.
        connections: how many connections a server takes, or a client makes, each in its own thread with the same
            script. None: a server takes any number until the block is left.
        context: how the peer does TLS instead of with a certificate by `ca`. On it, session tickets are switched off
            and ``keylog_filename`` is set for the time of the block, for that is how the peer gets its keys. Peers may
            share one.
        ca: the authority for the contexts; None for one that all peers of the process share.
        server_hostname: what a client asks for by SNI.
        timeout: seconds that any connection can last, and that a peer waits for its first; it is no time that a test
            takes, but the end of a hang.
        byte_by_byte: hand all that is sent to the kernel one byte at a time.
        data_cap: how many bytes of received data a report keeps.

    Attributes:
        host, port: where it listens; None for a client.
        entry: the entry of the catalogue, or None for a script of one's own.

    Raises:
        ValueError: there is no such entry, or not for this role and version; or an argument makes no sense.
        TypeError: the script is none.
        ExpectationFailed: on leaving the block: an ``expect_…`` of the script was not met. Other exceptions of the
            script itself come out there, too. Neither replaces an error of the block.
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
        self._part = Part(
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
        self._runner: Runner | None = None

    # -- for the code under test --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of the script."""
        return self._part.name

    @property
    def address(self) -> tuple[str, int]:
        """Host and port at which a server listens."""
        return self.host, self.port

    def client_context(self) -> ssl.SSLContext:
        """A fresh context for a client under test: it trusts the peer's authority, and nobody else."""
        return _identity.client_context(self._ca)

    def server_context(self) -> ssl.SSLContext:
        """A fresh context for a server under test, with a certificate for localhost and the loopback addresses."""
        return _identity.server_context(self._ca)

    @property
    def ca_file(self) -> Path:
        """The authority's certificate as a PEM file, for who wants a path; it exists while in the block."""
        self._entered()
        return self._folder / _CA_FILE

    # -- what it saw --------------------------------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """What the peer saw on its first connection.

        Raises:
            RuntimeError: that is not over; leave the block first, or call `wait`.
        """
        reports = self.reports
        if not reports:
            raise RuntimeError("the peer is still at it: leave its block first, or call wait()")
        return reports[0]

    @property
    def reports(self) -> tuple[Report, ...]:
        """Those of all connections that are over, in the order in which they were made."""
        return self._entered().reports()

    def wait(self, timeout: float | None = None) -> Report:
        """Wait, in the block, until all connections are over: the script's part, and that of the code under test.

        Args:
            timeout: seconds; None for what the peer's own allows.

        Returns:
            The first report.

        Raises:
            TimeoutError: they are not.
            ExpectationFailed: as on leaving the block.
        """
        __tracebackhide__ = True
        runner = self._entered()
        if not runner.join(2 * self._timeout if timeout is None else timeout):
            raise TimeoutError("the peer is not done: the code under test may still be connected")
        runner.raise_failure()
        return self.report

    def go(self) -> None:
        """Let a script that waits in `Act.wait_for_go` go on."""
        self._entered().signals.go.set()

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the script calls `Act.ready`.

        Args:
            timeout: seconds; None for the peer's own.

        Raises:
            TimeoutError: it did not.
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
                self._context.num_tickets = 0  # a ticket of OpenSSL's would take the first number of our records
            runner = Runner(self._part, keylog)
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

    def _entered(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("the block of the Peer was not entered")
        return self._runner


def _check_numbers(connections: int | None, timeout: float) -> None:
    if connections is not None and connections < 1:
        raise ValueError(f"connections={connections}: one at least, or None for any number")
    if timeout <= 0:
        raise ValueError(f"timeout={timeout}: it has to be more than no time")


def _check_part(role: str, tls: object, context: ssl.SSLContext | None) -> None:
    if role not in ("server", "client"):
        raise ValueError(f"role={role!r}: known are 'server' and 'client'")
    if tls is not None and tls not in get_args(_identity.TLSVersion):
        raise ValueError(f"tls={tls!r}: known are '1.2' and '1.3', and None leaves it to the context")
    wrong = {"server": ssl.PROTOCOL_TLS_CLIENT, "client": ssl.PROTOCOL_TLS_SERVER}[role]
    if context is not None and context.protocol is wrong:
        raise ValueError(f"the peer is a {role}, and its context is of {wrong.name}")


def _check_callable(function: object, what: str) -> None:
    if not callable(function):
        raise TypeError(f"{what}, and not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{what}, and no coroutine or generator: it runs in a thread of its own, and may block")
