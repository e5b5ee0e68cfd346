"""A socket of `bowout.blocking` in the place of an `ssl.SSLSocket`: what its callers get, and what the peer sees."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import select
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bowout.blocking
from bowout import Ending, How, Inbound, Outbound, Truncated
from bowout.blocking import TLSSocket
from helpers.blocking import InThread, socket_of, wait_until_waiting
from helpers.wire import NAME, VERSIONS, Version, Wire, client_context, leaving, peer, polite, silent

both_versions = pytest.mark.parametrize("version", VERSIONS)


def hello_then_fin(wire: Wire) -> None:
    """Say something, and leave without close_notify."""
    wire.handshake()
    wire.send(b"hello")
    wire.fin()


def talking(wire: Wire) -> str:
    """Say something, and answer the close."""
    wire.handshake()
    wire.send(b"hello")
    end = wire.read_to_end()
    wire.close_notify()
    return end


# -- the end of what is received --------------------------------------------------------------------------------------


@both_versions
def test_close_notify_is_the_end(version: Version) -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"hello")
        wire.close_notify()

    with peer(script, version=version) as link, socket_of(link) as sock:
        assert sock.makefile("rb").read() == b"hello"
        assert sock.recv(1) == b""


@both_versions
def test_a_fin_without_it_is_an_error_after_the_data(version: Version) -> None:
    with peer(hello_then_fin, version=version) as link, socket_of(link) as sock:
        assert sock.recv(100) == b"hello"
        for _ in range(2):
            with pytest.raises(ssl.SSLEOFError) as caught:
                sock.recv(100)
            assert isinstance(caught.value, Truncated)
    assert sock.ending is not None
    assert sock.ending.inbound is Inbound.TRUNCATED_AT_BOUNDARY


@both_versions
def test_an_rst_is_an_error(version: Version) -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        wire.link.await_go()
        wire.rst()

    with peer(script, version=version) as link, socket_of(link) as sock:
        link.go.set()
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


@pytest.mark.parametrize("policy", [{"truncation": "tolerate"}, {"tolerant_hosts": {NAME.upper()}}])
def test_a_policy_tolerates_it_and_logs_it_once(policy: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    endings: list[Ending] = []
    with (
        caplog.at_level(logging.WARNING, logger="bowout.blocking"),
        peer(hello_then_fin) as link,
        socket_of(link, on_ending=endings.append, **policy) as sock,
    ):
        assert [sock.recv(100), sock.recv(100), sock.recv(100)] == [b"hello", b"", b""]
    assert ["without close_notify" in record.getMessage() for record in caplog.records] == [True]
    assert [ending.inbound for ending in endings] == [Inbound.TRUNCATED_AT_BOUNDARY]


def test_suppress_ragged_eofs_false_is_strict_whatever_the_policy_is() -> None:
    with peer(hello_then_fin) as link, socket_of(link, truncation="tolerate", suppress_ragged_eofs=False) as sock:
        assert sock.recv(100) == b"hello"
        with pytest.raises(ssl.SSLEOFError):
            sock.recv(100)


# -- ends of ours -----------------------------------------------------------------------------------------------------


@both_versions
def test_close_is_clean_and_waits_for_the_files(version: Version) -> None:
    with peer(talking, version=version) as link:
        sock = socket_of(link)
        file = sock.makefile("rb")
        sock.close()
        assert sock.fileno() >= 0
        assert file.read(5) == b"hello"
        file.close()
        assert sock.ending is not None
        assert sock.ending.how is How.CLEAN
        assert sock.fileno() < 0
    assert link.result == "close_notify"


def test_a_block_that_is_left_by_an_error_sends_no_close_notify() -> None:
    with peer(leaving) as link:
        with pytest.raises(LookupError), socket_of(link) as sock:
            raise LookupError
        assert sock.ending is not None
        assert sock.ending.outbound is not Outbound.CLOSE_NOTIFY_SENT
    assert link.result == "FIN"


def test_half_close_in_tls_1_3_goes_on_receiving() -> None:
    def script(wire: Wire) -> str:
        wire.handshake()
        end = wire.read_to_end()
        wire.send(b"the answer")
        wire.close_notify()
        return end

    with peer(script, version="1.3") as link, socket_of(link) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.makefile("rb").read() == b"the answer"
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"more")
    assert link.result == "close_notify"


def test_abort_is_an_rst() -> None:
    with peer(leaving) as link:
        sock = socket_of(link)
        sock.abort()
        assert sock.ending is not None
        assert sock.ending.how is How.ABORTED
    assert link.result == "RST"


@both_versions
def test_unwrap_goes_on_in_plain_text(version: Version) -> None:
    def script(wire: Wire) -> str:
        wire.handshake()
        end = wire.read_to_end()
        wire.close_notify()
        wire.sock.sendall(b"plain")
        return end

    with peer(script, version=version) as link, socket_of(link) as sock:
        assert sock.unwrap() is sock
        assert sock.recv(5) == b"plain"
        assert sock.ending is not None
        assert sock.ending.how is How.CLEAN
    assert link.result == "close_notify"


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["close", "shutdown"])
def test_a_thread_that_ends_it_wakes_a_thread_that_receives(verb: str) -> None:
    with peer(leaving) as link:
        sock = socket_of(link, close_timeout=5)
        reader = InThread(lambda: sock.recv(1))
        wait_until_waiting(sock)
        if verb == "close":
            sock.close()
        else:
            sock.shutdown(socket.SHUT_RDWR)
        error = reader.error()
        assert isinstance(error, OSError)
        assert error.errno == (errno.EBADF if verb == "close" else errno.ECONNABORTED)
        sock.close()
    assert link.result == "close_notify"


# -- timeouts ---------------------------------------------------------------------------------------------------------


def test_a_timeout_is_the_one_of_sockets_and_loses_nothing() -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        wire.link.await_go()
        wire.send(b"late")
        wire.close_notify()

    with peer(script) as link, socket_of(link) as sock:
        sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        link.go.set()
        sock.settimeout(60)
        assert sock.recv(10) == b"late"


def test_a_socket_that_does_not_block_says_what_it_waits_for() -> None:
    with peer(silent) as link:
        sock = socket_of(link)
        sock.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            sock.recv(1)
        sock.close()
        assert sock.ending is not None
        assert sock.ending.outbound is Outbound.FIN_SENT
    assert link.result == "close_notify"


@pytest.mark.parametrize("value", ["5", [5]])
def test_a_timeout_that_is_no_number_is_refused(value: Any) -> None:
    with peer(polite) as link, socket_of(link) as sock:
        with pytest.raises(TypeError):
            sock.settimeout(value)
        assert sock.gettimeout() is None


def test_the_timeout_outlives_the_connection() -> None:
    with peer(polite) as link:
        sock = socket_of(link)
        sock.settimeout(60)
        sock.close()
        assert sock.gettimeout() == sock.timeout == 60


@pytest.mark.parametrize("timeout", [None, 60, 0])
def test_a_descriptor_that_is_given_away_blocks_as_the_socket_did(timeout: float | None) -> None:
    with peer(leaving) as link:
        sock = socket_of(link)
        sock.settimeout(timeout)
        with socket.socket(fileno=sock.detach()) as plain:
            assert os.get_blocking(plain.fileno()) is (timeout is None)
        sock.close()
    assert link.result in {"FIN", "RST"}  # RST: the tickets of TLS 1.3 were unread


# -- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda sock: sock.recv(10.0), id="size"),
        pytest.param(lambda sock: sock.recv_into(bytearray(10), 2.0), id="count"),
        pytest.param(lambda sock: sock.recv_into(b"read-only!"), id="buffer"),
        pytest.param(lambda sock: sock.makefile("rb", buffering=0).readinto(b"read-only!"), id="file"),
    ],
)
def test_a_wrong_argument_of_a_receive_harms_nothing(wrong: Callable[[TLSSocket], object]) -> None:
    with peer(talking) as link, socket_of(link) as sock:
        select.select([sock], [], [])
        with pytest.raises(TypeError):
            wrong(sock)
        assert sock.recv(10) == b"hello"


def test_it_is_an_sslsocket_and_knows_what_one_knows() -> None:
    with peer(talking) as link, socket_of(link) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        assert (sock.version(), sock.server_hostname) == (f"TLSv{link.version}", NAME)
        assert sock.getpeercert()
        with pytest.raises(ValueError, match="flags"):
            sock.recv(1, socket.MSG_PEEK)


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ({"truncation": "never"}, ValueError),
        ({"tolerant_hosts": "example.org"}, TypeError),
        ({"close_timeout": -1}, ValueError),
        ({"linger_bytes": -1}, ValueError),
        ({"resume": "yes"}, TypeError),
        ({"on_ending": 1}, TypeError),
    ],
)
def test_a_policy_that_is_not_valid_changes_nothing(policy: dict[str, object], error: type[Exception]) -> None:
    context = client_context()
    with pytest.raises(error):
        bowout.blocking.prepare_context(context, **policy)  # type: ignore[arg-type]
    assert not issubclass(context.sslsocket_class, TLSSocket)


def test_a_context_must_be_one() -> None:
    with pytest.raises(TypeError, match="SSLContext"):
        bowout.blocking.prepare_context("context")  # type: ignore[arg-type]


def test_the_adapter_can_be_copied_and_checks_its_policy() -> None:
    pytest.importorskip("requests")
    adapter = pickle.loads(pickle.dumps(bowout.blocking.HTTPAdapter(tolerant_hosts=["old.example.org"])))
    assert isinstance(adapter, bowout.blocking.HTTPAdapter)
    with pytest.raises(ValueError, match="truncation"):
        bowout.blocking.HTTPAdapter(truncation="never")  # type: ignore[arg-type]


def test_without_requests_the_adapter_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bowout.blocking._requests", raising=False)
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.setitem(sys.modules, "requests.adapters", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bowout\[requests\]'"):
        _ = bowout.blocking.HTTPAdapter


def test_what_is_no_socket_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(TypeError, match=r"socket\.socket"):
        bowout.blocking.wrap(object(), client_context(), server_hostname=NAME)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"socket\.socket"):
        bowout.blocking.connect(NAME, 443, over=object())  # type: ignore[arg-type]
