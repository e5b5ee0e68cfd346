"""`bowout.sansio`, call by call: two connections in memory, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

import bowout
from bowout import Ending, Event, How, Inbound, MisuseError, Outbound, Role, StreamClosed
from bowout.sansio import SansIOConnection, Step
from helpers.engines import Clock
from helpers.peers import ROOT
from helpers.served import echo, serve
from helpers.wire import VERSIONS, Version, authority, our_context

_LARGE: Final = bytes(range(256)) * (1 << 14)


@dataclass
class Two:
    """A client, a server, and the bytes between them, which only the test moves.

    Attributes:
        limit: bytes that a transport takes at once.
    """

    client: SansIOConnection
    server: SansIOConnection
    clock: Clock
    limit: int = 1 << 20
    seen: list[Event] = field(default_factory=list)

    def move(self, source: SansIOConnection) -> bool:
        target = self.server if source is self.client else self.client
        if not (room := target.room) or (data := source.data_to_send()) is None:
            return False
        taken = bytes(data[: min(room, self.limit)])
        source.data_sent(len(taken))
        target.receive_data(taken)
        return True

    def settle(self) -> None:
        while self.move(self.client) | self.move(self.server):
            pass

    def shake_hands(self) -> None:
        while not (self.client.handshake() & self.server.handshake()):
            self.settle()
        self.settle()
        assert self.client.read() is None


@pytest.fixture(params=VERSIONS)
def two(request: pytest.FixtureRequest) -> Two:
    made = make_two(request.param)
    made.shake_hands()
    return made


def make_two(version: Version, **options: Any) -> Two:
    clock = Clock()
    seen: list[Event] = []
    client = SansIOConnection(
        our_context(version, "client"),
        server_hostname="localhost",
        peer="server",
        clock=clock,
        on_event=seen.append,
        **options,
    )
    server = SansIOConnection(our_context(version, "server"), role=Role.SERVER, peer="client", clock=clock)
    return Two(client, server, clock, seen=seen)


def steps(connection: SansIOConnection, two: Two, *, fin: Callable[[], object] = lambda: None) -> list[Step]:
    """Do as the steps say, up to the first that waits for the other side."""
    told: list[Step] = []
    while True:
        told.append(connection.next_step())
        match told[-1]:
            case Step.FIN:
                connection.fin_sent()
                fin()
            case Step.RELEASE:
                return told
            case _:
                if not two.move(connection) and connection.timeout:
                    return told


def test_data_pass_both_ways(two: Two) -> None:
    two.client.write(b"question")
    two.settle()
    assert two.server.read() == b"question"
    assert two.server.read() is None
    two.server.write(bytearray(_LARGE))
    answer = bytearray()
    while len(answer) < len(_LARGE):
        two.settle()
        while data := two.client.read(1000):
            answer += data
    assert answer == _LARGE


def test_a_close_of_both_sides_is_clean(two: Two) -> None:
    two.client.write(b"goodbye")
    two.client.begin_close(timeout=5)
    assert steps(two.client, two, fin=two.server.receive_eof)[-1] is Step.LINGER
    assert two.client.timeout == 5
    assert two.client.verdict is How.UNANSWERED
    assert two.server.read() == b"goodbye"
    assert two.server.read() == b""
    two.server.begin_close()
    assert steps(two.server, two, fin=two.client.receive_eof)[-1] is Step.RELEASE
    assert steps(two.client, two)[-1] is Step.RELEASE
    for connection in (two.client, two.server):
        ending = connection.released()
        assert ending.how is How.CLEAN
        assert connection.released() is connection.ending is ending
    assert tuple(two.seen)[-1] == two.client.released().events[-1]


def test_a_silent_peer_has_until_the_deadline(two: Two) -> None:
    two.client.begin_close(timeout=5)
    steps(two.client, two)
    two.clock.now += 4
    two.client.begin_close(timeout=30)  # It was to be over sooner.
    assert steps(two.client, two)[-1] is Step.LINGER
    assert two.client.timeout == 1
    two.clock.now += 1
    assert two.client.next_step() is Step.RELEASE
    ending = two.client.released()
    assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True)


def test_a_second_close_can_shorten_the_deadline(two: Two) -> None:
    two.client.begin_close(timeout=5)
    steps(two.client, two)
    two.client.begin_close(timeout=1)
    assert steps(two.client, two)[-1] is Step.LINGER
    assert two.client.timeout == 1


def test_what_comes_late_is_for_who_wants_it(two: Two) -> None:
    late: list[bytes] = []
    two.client.begin_close(late=late.append)
    steps(two.client, two)
    two.server.write(b"still here")
    two.settle()
    assert late == [b"still here"]
    assert two.client.released().discarded == 0


def test_a_half_close_leaves_the_other_half_open(two: Two) -> None:
    two.client.write_eof()
    two.client.write_eof()
    two.settle()
    assert two.server.read() == b""
    with pytest.raises(StreamClosed):
        two.client.write(b"more")
    if two.server.ssl_object.version() == "TLSv1.3":
        two.server.write(b"answer")
        two.settle()
        assert two.client.read() == b"answer"


def test_leaving_waits_for_nobody(two: Two) -> None:
    two.client.leave()
    assert steps(two.client, two)[-1] is Step.RELEASE
    assert two.client.released().how is How.UNANSWERED
    assert two.server.read() == b""


def test_leaving_without_close_notify_vouches_for_nothing(two: Two) -> None:
    two.client.leave(notify=False)
    two.client.leave()  # It cannot be allowed again.
    assert steps(two.client, two, fin=two.server.receive_eof)[-1] is Step.RELEASE
    assert two.client.released().how is How.ABORTED
    with pytest.raises(bowout.Truncated) as caught:
        two.server.read()
    assert caught.value.ending is not None
    assert caught.value.ending.how is How.TRUNCATED


def test_an_abort_is_told(two: Two) -> None:
    two.client.abort()
    assert two.client.next_step() in {Step.WRITE, Step.RELEASE}
    assert two.client.released().outbound is Outbound.RESET
    two.server.receive_reset("reset by peer")
    with pytest.raises(bowout.Reset):
        two.server.read()
    two.server.begin_close()
    assert steps(two.server, two)[-1] is Step.RELEASE
    assert two.server.released().how is How.RESET


def test_a_network_that_is_gone_is_no_reset(two: Two) -> None:
    two.client.receive_reset(loss="no route to host")
    with pytest.raises(bowout.Reset, match="no route to host"):
        two.client.read()


def test_tls_can_end_on_a_transport_that_goes_on(two: Two) -> None:
    two.client.begin_unwrap()
    with pytest.raises(MisuseError):
        two.client.unwrapped()
    steps(two.client, two)
    assert two.server.read() == b""
    two.server.begin_unwrap()
    assert steps(two.server, two)[-1] is Step.RELEASE
    assert steps(two.client, two)[-1] is Step.RELEASE
    assert (two.client.unwrapped(), two.server.unwrapped()) == (b"", b"")
    for ending in (two.client.ending, two.server.ending):
        assert ending is not None
        assert (ending.how, ending.unwrapped) == (How.CLEAN, True)


def test_only_what_was_unwrapped_is(two: Two) -> None:
    two.client.begin_close()
    with pytest.raises(MisuseError):
        two.client.unwrapped()


def test_a_write_that_was_not_sent_whole_is_unflushed(two: Two) -> None:
    two.limit = 1000
    two.client.write(_LARGE)
    with pytest.raises(MisuseError):
        two.client.write(b"more")
    with pytest.raises(MisuseError):
        two.client.write_eof()
    two.move(two.client)
    two.client.begin_close(timeout=1)
    two.clock.now += 1
    while (step := two.client.next_step()) is not Step.RELEASE:
        assert step in {Step.WRITE, Step.FLUSH}
    ending = two.client.released()
    assert ending.how is How.UNFLUSHED
    assert ending.sent + ending.unsent == len(_LARGE)


def test_half_a_message_has_no_close_notify(two: Two) -> None:
    with contextlib.suppress(LookupError), two.client.message():
        two.client.write(b"half")
        with pytest.raises(MisuseError):
            two.client.write_eof()
        raise LookupError
    two.client.begin_close(timeout=1)
    steps(two.client, two, fin=two.server.receive_eof)
    assert two.server.read() == b"half"
    with pytest.raises(bowout.Truncated):
        two.server.read()
    two.server.leave()
    assert steps(two.server, two, fin=two.client.receive_eof)[-1] is Step.RELEASE
    assert steps(two.client, two)[-1] is Step.RELEASE
    assert two.client.released().how is How.ABORTED


def test_a_whole_message_has(two: Two) -> None:
    with two.client.message():
        two.client.write(b"whole")
    two.client.write_eof()
    two.settle()
    assert (two.server.read(), two.server.read()) == (b"whole", b"")


def test_after_leaving_nothing_is_read_or_written(two: Two) -> None:
    two.client.begin_close()
    for call in (two.client.read, two.client.write_eof, lambda: two.client.write(b"x")):
        with pytest.raises(StreamClosed):
            call()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"role": "proxy"}, ValueError, 'role must be one of "client", "server"'),
        ({"role": None}, TypeError, "role must be one of"),
        ({"truncation": ""}, ValueError, "truncation must be one of"),
        ({"notify_on_error": ""}, TypeError, "notify_on_error must be a bool"),
        ({"linger_bytes": -1}, ValueError, "linger_bytes must be 0 or more"),
        ({"clock": 0.0}, TypeError, "clock must be a function"),
        ({"clock": None}, TypeError, "clock must be a function"),
        ({"unacknowledged": 0}, TypeError, "unacknowledged must be a function"),
        ({"unacknowledged": None}, TypeError, "unacknowledged must be a function"),
        ({"on_event": []}, TypeError, "on_event must be a function"),
        ({"server_hostname": 5}, TypeError, "server_hostname must be a str"),
        ({"context": None}, TypeError, "context must be an ssl.SSLContext"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    context = options.pop("context", our_context("1.3", "client"))
    with pytest.raises(error, match=re.escape(said)):
        SansIOConnection(context, **{"server_hostname": "localhost", **options})


def test_a_role_may_be_its_name() -> None:
    assert SansIOConnection(our_context("1.3", "server"), role="server").ssl_object.server_side  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, None, "5"])
def test_a_close_without_a_deadline_is_refused_and_begins_nothing(two: Two, timeout: Any) -> None:
    for begin in (two.client.begin_close, two.client.begin_unwrap):
        with pytest.raises((TypeError, ValueError), match="nothing waits forever"):
            begin(timeout=timeout)
    two.client.write(b"still open")
    two.settle()
    assert two.server.read() == b"still open"


def test_no_more_can_be_sent_than_there_was(two: Two) -> None:
    two.client.write(b"data")
    head = two.client.data_to_send()
    assert head is not None
    for count in (len(head) + 1, -1):
        with pytest.raises(ValueError, match="count"):
            two.client.data_sent(count)
    two.client.data_sent(0)
    two.settle()
    assert two.server.read() == b"data"


def test_only_bytes_are_written(two: Two) -> None:
    with pytest.raises(TypeError, match="data must be bytes, not str"):
        two.client.write("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1])
def test_a_read_of_nothing_is_refused(two: Two, size: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"size must be 1 or more, not {size}")):
        two.client.read(size)


def test_a_reader_that_is_slow_stops_the_peer(two: Two) -> None:
    two.server.write(_LARGE)
    two.settle()
    assert two.client.room == 0
    assert two.server.data_to_send() is not None, "the rest waits there"
    while two.client.read():
        pass
    assert two.client.room > 0


def test_a_torn_connection_sends_nothing_more(two: Two) -> None:
    two.client.write(b"perhaps")
    assert two.client.data_to_send() is not None
    two.client.tear(KeyboardInterrupt())  # Was it sent?
    assert two.client.data_to_send() is None
    two.client.leave()
    assert steps(two.client, two, fin=two.server.receive_eof)[-1] is Step.RELEASE
    ending = two.client.released()
    assert (ending.how, ending.reason) == (How.ABORTED, "torn by KeyboardInterrupt")


def test_a_refused_handshake_has_its_alert_seen_off() -> None:
    two = make_two("1.3")
    two.client = SansIOConnection(ssl.create_default_context(), server_hostname="localhost", clock=two.clock)
    with pytest.raises(bowout.CertificateError) as caught:
        two.shake_hands()
    assert caught.value.ending is not None
    two.client.begin_close(timeout=30)
    assert steps(two.client, two)[-1] is Step.LINGER
    assert 0 < two.client.timeout <= 1
    with pytest.raises(bowout.HandshakeAlert):
        two.server.handshake()
    two.clock.now += 1
    assert two.client.next_step() is Step.RELEASE
    ending = two.client.released()
    assert (ending.how, ending.deadline_hit) == (How.FAILED_HANDSHAKE, False)


def test_it_can_be_left_before_it_began() -> None:
    two = make_two("1.3")
    two.client.begin_close()
    assert steps(two.client, two)[-1] is Step.RELEASE
    ending = two.client.released()
    assert (ending.how, ending.inbound) == (How.FAILED_HANDSHAKE, Inbound.HANDSHAKE)


def test_an_observer_that_raises_leaves_an_ending() -> None:
    def observe(event: Event) -> None:
        if event.kind is bowout.EventKind.RELEASED:
            raise LookupError

    client = SansIOConnection(our_context("1.3", "client"), server_hostname="localhost", on_event=observe)
    client.leave()
    with pytest.raises(LookupError):
        client.released()
    assert isinstance(client.released(), Ending)


def test_the_example_sends_stdin_and_prints_the_answer(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(ca)

    async def main() -> tuple[bytes, bytes, int | None]:
        async with serve(echo) as server:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, ROOT / "examples" / "blocking_client.py", "localhost", str(server.port), ca),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            out, err = await process.communicate(_LARGE[: 1 << 16])
            return out, err, process.returncode

    out, err, status = asyncio.run(main())
    assert (out == _LARGE[: 1 << 16], status) == (True, 0), err
    assert b"clean" in err
