"""`bowout.blocking.SyncStream`: the verbs of a Stream, for code without an event loop."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

import bowout
import bowout.blocking
from bowout import (
    AlertReceived,
    BusyError,
    EventKind,
    How,
    Inbound,
    IncompleteRead,
    LimitExceeded,
    MisuseError,
    NoCloseNotify,
    Outbound,
    PeerClosed,
    ProtocolViolation,
    Reset,
    SendInterrupted,
    StreamClosed,
    TimedOut,
    Truncated,
)
from bowout.blocking import SyncStream, _monitor
from bowout.blocking._limit import Limit
from helpers.blocking import InThread, listening, stream_of, wait_until_waiting
from helpers.wire import (
    ROLES,
    VERSIONS,
    Role,
    Version,
    Wire,
    client_context,
    deaf,
    leaving,
    our_context,
    peer,
    polite,
    silent,
    tcp_pair,
)

both_versions = pytest.mark.parametrize("version", VERSIONS)

DATA = bytes(range(256)) * 1000


def echoing(wire: Wire) -> str:
    """Send everything back, and end when the client does."""
    wire.handshake()
    try:
        while data := wire.read():
            wire.send(data)
    except EOFError:
        return "FIN"
    wire.close_notify()
    return "close_notify"


def sending(data: bytes, end: Callable[[Wire], object] = Wire.close_notify) -> Callable[[Wire], str]:
    """A script that sends `data`, ends so, and reads to the end."""

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.send(data)
        end(wire)
        return wire.read_to_end() if wire.sock.fileno() >= 0 else ""

    return script


def no_end(wire: Wire) -> None:
    """Stay as you are."""


# -- receiving and sending --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("we", ROLES)
@both_versions
def test_data_go_both_ways_and_both_sides_end_well(version: Version, we: Role) -> None:
    with peer(echoing, version=version, we=we) as link:
        with stream_of(link) as stream:
            stream.send(DATA)
            assert stream.receive_exactly(len(DATA)) == DATA
        ending = stream.ending
    assert ending is not None
    assert (ending.how, ending.unsent, ending.discarded) == (How.CLEAN, 0, 0)
    assert link.result == "close_notify"


@both_versions
def test_all_ways_to_receive(version: Version) -> None:
    with peer(sending(b"first\nsecond\n12345rest"), version=version) as link, stream_of(link) as stream:
        assert stream.receive_until(b"\n") == b"first\n"
        assert stream.receive(3) == b"sec"
        buffer = bytearray(4)
        assert stream.receive_into(buffer) == 4
        assert buffer == b"ond\n"
        assert stream.receive_exactly(5) == b"12345"
        assert stream.receive_exactly(0) == b""
        assert list(stream) == [b"rest"]
        assert stream.receive() == b""
        assert stream.receive_into(buffer) == 0


def test_lines_come_one_by_one_and_the_last_may_lack_its_end() -> None:
    with peer(sending(b"a\nb\nc")) as link, stream_of(link) as stream:
        assert list(stream.lines()) == [b"a\n", b"b\n", b"c"]


def test_an_end_within_what_was_asked_for_is_told_with_what_came() -> None:
    with peer(sending(b"abc")) as link, stream_of(link) as stream:
        with pytest.raises(IncompleteRead, match="3 of 5 bytes") as caught:
            stream.receive_exactly(5)
        assert (caught.value.partial, caught.value.expected) == (b"abc", 5)
        with pytest.raises(IncompleteRead, match=r"before b'\\n'"):
            stream.receive_until(b"\n")


def test_a_separator_too_far_away_leaves_all_readable() -> None:
    with peer(sending(b"x" * 100)) as link, stream_of(link) as stream:
        with pytest.raises(LimitExceeded, match="within 10 bytes"):
            stream.receive_until(b"\n", 10)
        assert stream.receive_exactly(100) == b"x" * 100


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (Wire.fin, Truncated),
        (lambda wire: wire.sock.sendall(wire.encrypt(b"lost")[:-1]) or wire.fin(), Truncated),
        (Wire.rst, Reset),
        (Wire.garbage, ProtocolViolation),
    ],
    ids=["FIN", "FIN inside a record", "RST", "garbage"],
)
@both_versions
def test_what_came_before_a_bad_end_is_delivered_and_then_the_error_each_time(
    version: Version, end: Callable[[Wire], object], error: type[bowout.PeerError]
) -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"before")
        wire.link.await_go()
        end(wire)
        wire.hold()

    with peer(script, version=version) as link, stream_of(link) as stream:
        assert stream.receive_exactly(2) == b"be"
        link.go.set()
        with pytest.raises(error) as caught:
            stream.receive_exactly(100)
        assert stream.receive_exactly(2) == b"fo"  # It stays readable.
        assert stream.receive() == b"re"
        for _ in range(2):
            with pytest.raises(error):
                stream.receive()
        assert caught.value.ending is not None
        ending = stream.close(0)
    assert ending.how is not How.CLEAN


@both_versions
def test_a_fatal_alert_is_told_by_its_name(version: Version) -> None:
    from bowout.testing import Act, Peer  # noqa: PLC0415 the scripted peers, for one test

    def script(act: Act) -> None:
        act.handshake()
        act.alert("fatal", "internal_error")

    with (
        Peer(script, tls=version) as bad,
        bowout.blocking.connect("localhost", bad.port, context=bad.client_context()) as stream,
        pytest.raises(AlertReceived, match="internal_error"),
    ):
        stream.receive()


def test_a_truncation_at_a_boundary_can_be_tolerated() -> None:
    with peer(sending(b"all", Wire.fin)) as link, stream_of(link, truncation="tolerate") as stream:
        assert stream.receive_until(b"l") == b"al"
        assert list(stream) == [b"l"]
        assert stream.close().inbound is Inbound.TRUNCATED_AT_BOUNDARY


def test_a_half_close_lets_the_answer_come() -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        assert wire.read_to_end() == "close_notify"
        wire.send(b"you said " + bytes(wire.received))
        wire.close_notify()

    with peer(script) as link, stream_of(link) as stream:
        stream.send(b"hello")
        stream.send_eof()
        stream.send_eof()
        assert b"".join(stream) == b"you said hello"
        with pytest.raises(StreamClosed):
            stream.send(b"more")
        assert not stream.can_send


def test_in_tls_1_2_the_peers_end_ends_ours() -> None:
    with peer(sending(b"bye"), version="1.2") as link, stream_of(link) as stream:
        assert list(stream) == [b"bye"]
        with pytest.raises(PeerClosed):
            stream.send(b"more")


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_receive_that_gets_nothing_in_time_loses_nothing() -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"ab")
        wire.link.await_go()
        wire.send(b"cd")
        polite_end(wire)

    with peer(script) as link, stream_of(link, timeout=0.02) as stream:
        stream.handshake()
        with pytest.raises(TimedOut, match=r"nothing was received for 0\.02 s") as caught:
            stream.receive_exactly(4)
        assert isinstance(caught.value, TimeoutError)
        assert not caught.value.writing
        link.go.set()
        stream.timeout = None
        assert stream.receive_exactly(4) == b"abcd"


def test_a_part_of_a_record_is_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    restarts: list[Limit] = []

    def restart(limit: Limit) -> None:
        restarts.append(limit)
        original(limit)
        if len(restarts) == 2:
            link.go.set()

    original = Limit.restart

    def script(wire: Wire) -> None:
        wire.handshake()
        record = wire.encrypt(b"slow")
        wire.sock.sendall(record[:10])
        wire.link.go.wait(10)
        wire.sock.sendall(record[10:])
        polite_end(wire)

    with peer(script) as link, stream_of(link) as stream:
        stream.handshake()
        monkeypatch.setattr(Limit, "restart", restart)
        assert stream.receive() == b"slow"
        assert len(restarts) >= 2
        assert len(set(map(id, restarts))) == 1


def polite_end(wire: Wire) -> None:
    if wire.read_to_end() == "close_notify":
        wire.close_notify()


def test_a_send_that_the_peer_does_not_take_in_time_was_interrupted() -> None:
    with peer(deaf, small=True) as link, stream_of(link, timeout=0.05, close_timeout=0.05) as stream:
        with pytest.raises(TimedOut, match="the peer took no bytes") as caught:
            stream.send(bytes(32 << 20))
        assert caught.value.writing
        with pytest.raises(SendInterrupted):
            stream.send(b"more")
        with pytest.raises(SendInterrupted):
            stream.send_eof()
        ending = stream.close()
    assert ending.outbound in {Outbound.CUT, Outbound.OPEN}
    assert ending.unsent > 0


def test_a_silent_peer_costs_a_close_its_time_and_no_more() -> None:
    with peer(silent) as link:
        stream = stream_of(link)
        stream.handshake()
        ending = stream.close(0.02)
        assert stream.close() is ending
    assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True)
    assert link.result == "close_notify"


def test_a_handshake_that_the_peer_does_not_answer_ends_in_time() -> None:
    ours, theirs = tcp_pair()
    with theirs:
        stream = bowout.blocking.wrap(ours, client_context(), server_hostname="peer.test", handshake_timeout=0.02)
        with pytest.raises(bowout.HandshakeTimeout, match=r"within 0\.02 s"):
            stream.send(b"hello")
    assert stream.ending is not None
    assert stream.ending.how is How.FAILED_HANDSHAKE
    assert stream.socket is None


# -- ending -----------------------------------------------------------------------------------------------------------


def test_a_close_gives_what_is_unread_and_late_to_who_asked() -> None:
    def script(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"one\ntwo")
        wire.read_to_end()
        wire.send(b" three")
        wire.close_notify()

    with peer(script) as link:
        stream = stream_of(link)
        assert stream.receive_until(b"\n") == b"one\n"
        late: list[bytes] = []
        ending = stream.close(late=late.append)
    assert b"".join(late) == b"two three"
    assert (ending.how, ending.discarded) == (How.CLEAN, 0)


def test_what_nobody_read_is_counted() -> None:
    with peer(sending(b"one\ntwo", no_end)) as link:
        stream = stream_of(link)
        assert stream.receive_until(b"\n") == b"one\n"
        assert stream.close(0.05).discarded == 3


def test_an_exception_of_the_late_function_ends_the_close() -> None:
    def strike(data: bytes) -> None:
        raise KeyError("mine")

    with peer(sending(b"one\ntwo", no_end)) as link:
        stream = stream_of(link)
        stream.receive_until(b"\n")
        with pytest.raises(KeyError, match="mine"):
            stream.close(late=strike)
        assert stream.ending is not None
        assert stream.socket is None


def test_an_abort_sends_rst() -> None:
    with peer(leaving) as link:
        stream = stream_of(link)
        stream.handshake()
        ending = stream.abort()
        assert ending.how is How.ABORTED
        assert stream.abort() is ending
        assert stream.close() is ending
    assert link.result == "RST"


@both_versions
def test_unwrap_gives_the_socket_and_what_followed_tls(version: Version) -> None:
    def script(wire: Wire) -> bytes:
        wire.handshake()
        assert wire.read_to_end() == "close_notify"
        wire.sock.sendall(wire.encrypt_close_notify() + b"in plain")
        return wire.sock.recv(100)

    with peer(script, version=version) as link:
        stream = stream_of(link, timeout=60)
        stream.handshake()
        sock, leftover = stream.unwrap()
        with sock:
            assert sock.gettimeout() == 60
            while len(leftover) < len(b"in plain"):
                leftover += sock.recv(100)
            sock.sendall(b"plain, too")
    assert leftover == b"in plain"
    assert link.result == b"plain, too"
    assert stream.ending is not None
    assert stream.ending.unwrapped


def test_an_unwrap_that_is_not_answered_closes() -> None:
    with peer(silent) as link:
        stream = stream_of(link)
        stream.handshake()
        with pytest.raises(NoCloseNotify):
            stream.unwrap(0.02)
        assert stream.socket is None


def test_half_a_message_is_not_vouched_for() -> None:
    with peer(leaving) as link:
        stream = stream_of(link)
        with contextlib.suppress(KeyError), stream.message():
            stream.send(b"half")
            with pytest.raises(MisuseError, match="in progress"):
                stream.send_eof()
            raise KeyError
        stream.close(1)
    assert link.result == "FIN"


@pytest.mark.parametrize(
    ("error", "options", "end"),
    [
        (None, {}, "close_notify"),
        (KeyError, {}, "FIN"),
        (KeyError, {"on_error": "close"}, "close_notify"),
        (KeyboardInterrupt, {}, "close_notify"),
        (SystemExit, {}, "close_notify"),
    ],
)
def test_how_a_block_is_left_decides_what_the_peer_sees(
    error: type[BaseException] | None, options: dict[str, Any], end: str
) -> None:
    with peer(leaving) as link:
        stream = stream_of(link, close_timeout=5, **options)
        with contextlib.nullcontext() if error is None else pytest.raises(error), stream:
            stream.send(b"something")
            if error is not None:
                raise error
        assert stream.ending is not None
    assert link.result == end


def test_a_stream_that_is_forgotten_warns_and_its_descriptor_goes() -> None:
    with peer(leaving) as link:
        stream = stream_of(link)
        stream.handshake()
        with pytest.warns(ResourceWarning, match=r"was never closed; it was made at .*blocking\.py"):
            del stream
    assert link.result in {"FIN", "RST"}  # RST if tickets are unread


# -- threads ----------------------------------------------------------------------------------------------------------


@both_versions
def test_one_thread_reads_while_another_writes(version: Version) -> None:
    data = DATA * 20
    with peer(echoing, version=version, small=True) as link, stream_of(link) as stream:
        reader = InThread(lambda: stream.receive_exactly(len(data)))
        stream.send(data)
        assert reader.result() == data


def test_sends_of_several_threads_do_not_interleave() -> None:
    blocks = [bytes([number]) * 300_000 for number in range(1, 5)]
    size = sum(map(len, blocks))

    def script(wire: Wire) -> bytes:
        wire.handshake()
        wire.read_exactly(size)
        return bytes(wire.received)

    with peer(script, small=True) as link, stream_of(link, close_timeout=1) as stream:
        stream.handshake()
        senders = [InThread(lambda block=block: stream.send(block)) for block in blocks]  # type: ignore[misc]
        for sender in senders:
            sender.result()
    assert {link.result[start : start + 300_000] for start in range(0, size, 300_000)} == set(blocks)


@both_versions
def test_a_close_of_another_thread_ends_a_receive_at_once(version: Version) -> None:
    """The peer is silent: nothing but the close can wake the reader."""
    with peer(silent, version=version) as link:
        stream = stream_of(link)
        stream.handshake()
        reader = InThread(stream.receive)
        wait_until_waiting(stream)
        closer = InThread(stream.close)
        with pytest.raises(StreamClosed):
            reader.result()
        assert stream.ending is None  # The close still waits for the peer.
        assert stream.close(0.02) is closer.result()


def test_iteration_stops_when_another_thread_closes() -> None:
    with peer(polite) as link:
        stream = stream_of(link)
        stream.handshake()
        reader = InThread(lambda: list(stream))
        wait_until_waiting(stream)
        assert stream.close().how is How.CLEAN
        assert reader.result() == []


def test_a_close_waits_for_the_send_of_another_thread() -> None:
    data = bytes(4 << 20)

    def script(wire: Wire) -> tuple[str, int]:
        wire.handshake()
        wire.link.await_go()
        end = wire.read_to_end()
        wire.close_notify()
        return end, len(wire.received)

    with peer(script, small=True) as link:
        stream = stream_of(link)
        stream.handshake()
        sender = InThread(lambda: stream.send(data))
        wait_until_waiting(stream)
        closer = InThread(stream.close)
        wait_until_waiting(stream, 2)
        link.go.set()
        assert closer.result().how is How.CLEAN
        sender.result()
    assert link.result == ("close_notify", len(data))


def test_an_abort_of_another_thread_ends_a_send() -> None:
    with peer(deaf, small=True) as link:
        stream = stream_of(link)
        stream.handshake()
        sender = InThread(lambda: stream.send(bytes(32 << 20)))
        wait_until_waiting(stream)
        stream.abort()
        assert isinstance(sender.error(), StreamClosed)


def test_only_one_thread_may_receive() -> None:
    with peer(polite) as link, stream_of(link) as stream:
        reader = InThread(stream.receive)
        wait_until_waiting(stream)
        with pytest.raises(BusyError, match="another thread"):
            stream.receive()
        stream.close()
        assert isinstance(reader.error(), StreamClosed)


def test_several_threads_may_close_and_share_one_ending() -> None:
    with peer(polite) as link:
        stream = stream_of(link)
        stream.handshake()
        closers = [InThread(stream.close) for _ in range(4)]
        assert {closer.result() for closer in closers} == {stream.ending}


def test_a_shorter_close_shortens_the_one_that_waits() -> None:
    with peer(silent) as link:
        stream = stream_of(link)
        stream.handshake()
        patient = InThread(stream.close)
        wait_until_waiting(stream)
        assert stream.close(0.02) is patient.result()


def test_a_close_takes_a_stream_from_an_unwrap() -> None:
    with peer(silent) as link:
        stream = stream_of(link)
        stream.handshake()
        unwrapper = InThread(stream.unwrap)
        wait_until_waiting(stream)
        stream.close(0.02)
        assert isinstance(unwrapper.error(), StreamClosed)


def test_only_the_first_of_two_threads_shakes_hands() -> None:
    with peer(echoing) as link:
        stream = stream_of(link)
        threads = [InThread(stream.handshake) for _ in range(3)]
        for thread in threads:
            thread.result()
        assert stream.close().how is How.CLEAN


@pytest.mark.parametrize("second", ["handshake", "send"])
def test_who_waits_for_a_turn_does_not_watch_the_socket(second: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder may wait for input while the socket is writable: a wait for that would end at once, and begin anew."""
    polled: dict[int, list[bool]] = {}

    def poll(waker: int, descriptor: int, *, read: bool, write: bool, until: float) -> None:
        polled.setdefault(threading.get_ident(), []).append(read or write)
        original(waker, descriptor, read=read, write=write, until=until)

    original = _monitor._poll
    monkeypatch.setattr(_monitor, "_poll", poll)

    def script(wire: Wire) -> str:
        if second == "handshake":
            wire.link.await_go()
        wire.handshake()
        wire.link.await_go()
        return wire.read_to_end()

    with peer(script, small=True) as link:
        stream = stream_of(link)
        if second == "send":
            stream.handshake()
        verb = stream.handshake if second == "handshake" else lambda: stream.send(bytes(1 << 20))
        first = InThread(verb)
        wait_until_waiting(stream)
        other = InThread(verb)
        wait_until_waiting(stream, threads=2)
        waits = polled[other.ident].copy()
        link.go.set()
        first.result()
        other.result()
        assert waits
        assert not any(waits)
        stream.close(0)


def test_a_send_that_waits_for_another_has_time_while_the_peer_takes_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    restarts: list[int] = []

    def restart(limit: Limit) -> None:
        restarts.append(threading.get_ident())
        original(limit)

    original = Limit.restart
    monkeypatch.setattr(Limit, "restart", restart)

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_ready()
        wire.read_exactly(1 << 19)
        wire.link.await_go()
        return wire.read_to_end()

    with peer(script, small=True) as link, stream_of(link) as stream:
        stream.handshake()
        first = InThread(lambda: stream.send(bytes(1 << 20)))
        wait_until_waiting(stream)
        other = InThread(lambda: stream.send(b"more"))
        wait_until_waiting(stream, threads=2)
        assert restarts.count(other.ident) == 1
        link.ready.set()
        pause = threading.Event()
        for _ in range(2000):
            stream._connection._monitor.wake()
            if restarts.count(other.ident) > 1 or pause.wait(0.005):
                break
        assert restarts.count(other.ident) > 1
        link.go.set()
        first.result()
        other.result()
        stream.close(0)


# -- facts and bad use ------------------------------------------------------------------------------------------------


@both_versions
def test_a_stream_shows_what_is_known_of_it(version: Version) -> None:
    with peer(echoing, version=version) as link, stream_of(link) as stream:
        assert stream.tls_version == f"TLSv{version}"
        assert stream.cipher
        assert stream.role is bowout.Role.CLIENT
        assert stream.remote_address == link.sock.getpeername()
        assert stream.local_address == link.sock.getsockname()
        assert stream.peer == f"127.0.0.1:{link.sock.getpeername()[1]}"
        assert stream.peer_certificate()
        assert stream.is_reusable()
        closing = stream.is_closing
        assert "open" in repr(stream)
        stream.send(b"x")
        stream.receive_exactly(1)
        assert stream.session is not None
    assert (closing, stream.is_closing) == (False, True)
    assert not stream.is_reusable()
    assert "clean" in repr(stream)


def test_a_stream_that_the_peer_has_ended_is_not_reusable() -> None:
    with peer(sending(b"")) as link, stream_of(link) as stream:
        assert stream.receive() == b""
        assert not stream.is_reusable()


def test_events_are_observed() -> None:
    seen: list[bowout.EventKind] = []
    with peer(echoing) as link:
        with stream_of(link, on_event=lambda event: seen.append(event.kind)) as stream:
            stream.send(b"x")
            stream.receive_exactly(1)
            stream.observe(None)
        assert {EventKind.CONNECTED, EventKind.HANDSHAKE_DONE, EventKind.DATA} <= set(seen)
        assert EventKind.RELEASED not in seen


def test_an_observer_cannot_use_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    def meddle(event: bowout.Event) -> None:
        if event.kind is EventKind.DATA:
            stream.close()

    with peer(echoing) as link, stream_of(link, on_event=meddle) as stream:
        stream.send(b"x")
        assert stream.receive_exactly(1) == b"x"
    assert "MisuseError" in caplog.text


MISUSES: dict[str, tuple[Callable[[SyncStream], object], type[Exception]]] = {
    "receive no bytes": (lambda stream: stream.receive(0), ValueError),
    "receive a text": (lambda stream: stream.receive("1"), TypeError),  # type: ignore[arg-type]
    "an empty buffer": (lambda stream: stream.receive_into(bytearray()), ValueError),
    "a read-only buffer": (lambda stream: stream.receive_into(memoryview(b"x")), ValueError),
    "exactly less than nothing": (lambda stream: stream.receive_exactly(-1), ValueError),
    "an empty separator": (lambda stream: stream.receive_until(b""), ValueError),
    "a separator of text": (lambda stream: stream.receive_until("x"), TypeError),  # type: ignore[arg-type]
    "send a text": (lambda stream: stream.send("text"), TypeError),  # type: ignore[arg-type]
    "close in the past": (lambda stream: stream.close(-1), ValueError),
    "late is no function": (lambda stream: stream.close(late=1), TypeError),  # type: ignore[arg-type]
    "unwrap soon": (lambda stream: stream.unwrap("soon"), TypeError),  # type: ignore[arg-type]
    "no time": (lambda stream: setattr(stream, "timeout", 0), ValueError),
}


@pytest.mark.parametrize("name", MISUSES)
def test_bad_arguments_are_refused_and_harm_nothing(name: str) -> None:
    misuse, error = MISUSES[name]
    with peer(echoing) as link, stream_of(link) as stream:
        with pytest.raises(error):
            misuse(stream)
        stream.send(b"x")
        assert stream.receive() == b"x"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"truncation": "hide"}, ValueError),
        ({"server_hostname": None}, ValueError),
        ({"server_side": True}, ValueError),
        ({"received": "text"}, TypeError),
    ],
)
def test_what_cannot_be_wrapped_stays_the_callers(options: dict[str, Any], error: type[Exception]) -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        with pytest.raises(error):
            bowout.blocking.wrap(ours, our_context("1.3", "client"), **{"server_hostname": "peer.test", **options})
        assert ours.fileno() >= 0


def test_bytes_that_were_read_already_are_processed_first() -> None:
    with peer(echoing, we="server") as link:
        first = link.sock.recv(5)
        with bowout.blocking.wrap(
            link.sock, our_context("1.3", "server"), server_side=True, received=first, close_timeout=5
        ) as stream:
            stream.send(b"x")
            assert stream.receive_exactly(1) == b"x"


def test_a_unix_socket_will_do() -> None:
    with peer(echoing, unix=True) as link, stream_of(link) as stream:
        stream.send(b"x")
        assert stream.receive_exactly(1) == b"x"
        assert stream.close().how is How.CLEAN


def test_an_ssl_socket_is_refused() -> None:
    ours, theirs = tcp_pair()
    with theirs, client_context().wrap_socket(ours, server_hostname="x", do_handshake_on_connect=False) as sock:
        with pytest.raises(TypeError, match="SSLSocket already"):
            bowout.blocking.wrap(sock, client_context(), server_hostname="x")
        assert isinstance(sock, ssl.SSLSocket)
        assert isinstance(sock, socket.socket)


@pytest.mark.parametrize("with_port", [False, True])
def test_it_connects_from_a_local_address(*, with_port: bool) -> None:
    with listening() as listener:
        port = listener.getsockname()[1]
        with socket.create_server(("127.0.0.2", 0)) as taken:
            free = taken.getsockname()
        seen: list[tuple[str, int]] = []

        def accept() -> None:
            sock, address = listener.accept()
            seen.append(address)
            sock.close()

        server = InThread(accept)
        with pytest.raises(bowout.HandshakeError):
            bowout.blocking.connect("127.0.0.1", port, local_address=free if with_port else free[0])
        server.result()
    assert seen[0][0] == "127.0.0.2"
    assert not with_port or seen[0] == free
