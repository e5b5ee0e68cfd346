"""What is raised within a call of OpenSSL, by a signal handler for example, comes out, and loses nothing unsaid."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from bowout._core import hook
from bowout._server.sni import sni_callback
from bowout.ending import How, Inbound, Outbound
from bowout.errors import ReceiveInterrupted
from helpers.engines import EnginePair, contexts, pair, read, send

if TYPE_CHECKING:
    from bowout._core.engine import Engine


class Interruption(BaseException):
    """What a signal handler raises."""


class Raiser:
    """A callback of the context that raises within OpenSSL's call, where a signal handler may; once for each arming."""

    def __init__(self) -> None:
        self.armed = False

    def __call__(self, *_: object) -> None:
        armed, self.armed = self.armed, False
        if armed:
            raise Interruption


def interruptible(ca: trustme.CA, version: str) -> tuple[Raiser, EnginePair]:
    """Two engines; what OpenSSL does for the client can be interrupted."""
    client, server = contexts(ca, version)
    raiser = Raiser()
    fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(fresh)
    fresh.minimum_version, fresh.maximum_version = client.minimum_version, client.maximum_version
    fresh._msg_callback = raiser  # type: ignore[attr-defined]
    hook.prepare(fresh)
    return raiser, pair(fresh, server)


def with_unread_record(ca: trustme.CA, version: str) -> tuple[Raiser, EnginePair]:
    """The same after the handshake, with one record for the client."""
    raiser, two = interruptible(ca, version)
    two.shake_hands()
    two.settle()
    assert read(two.client) is None
    send(two.server, b"a record")
    two.move(two.server)
    return raiser, two


def discard_all(engine: Engine) -> None:
    """Do as a close does."""
    while engine.discard(memoryview(bytearray(1 << 14))):
        pass


def test_a_handshake_that_was_interrupted_goes_on(ca: trustme.CA, version: str) -> None:
    raiser, two = interruptible(ca, version)
    raiser.armed = True
    with pytest.raises(Interruption):
        two.client.handshake()
    two.shake_hands()
    assert two.client.handshake_done


def test_a_record_that_was_lost_is_not_passed_over(ca: trustme.CA, version: str) -> None:
    raiser, two = with_unread_record(ca, version)
    raiser.armed = True
    with pytest.raises(Interruption):
        read(two.client)
    for _ in range(2):
        with pytest.raises(ReceiveInterrupted):
            read(two.client)


def test_after_a_lost_record_a_close_still_finds_the_end(ca: trustme.CA, version: str) -> None:
    raiser, two = with_unread_record(ca, version)
    raiser.armed = True
    with pytest.raises(Interruption):
        read(two.client)
    two.client.record_call("close()", leaving=True)
    two.server.queue_close_notify()
    two.move(two.server)
    discard_all(two.client)
    assert two.client.inbound is Inbound.CLOSE_NOTIFY


def test_an_interrupted_read_that_gives_no_data_loses_nothing(ca: trustme.CA) -> None:
    raiser, two = interruptible(ca, "1.3")
    two.shake_hands()
    two.settle()  # Session tickets are unread.
    raiser.armed = True
    with pytest.raises(Interruption):
        read(two.client)
    send(two.server, b"all of it")
    two.move(two.server)
    assert read(two.client) == b"all of it"


def test_a_record_whose_write_was_interrupted_leaves_whole(ca: trustme.CA, version: str) -> None:
    raiser, two = interruptible(ca, version)
    two.shake_hands()
    raiser.armed = True
    with pytest.raises(Interruption):
        two.client.outgoing.write(memoryview(b"whole"))
    two.move(two.client)
    assert read(two.server) == b"whole"


def test_a_close_notify_that_was_interrupted_leaves(ca: trustme.CA, version: str) -> None:
    raiser, two = interruptible(ca, version)
    two.shake_hands()
    two.settle()
    assert read(two.client) is None
    raiser.armed = True
    with pytest.raises(Interruption):
        two.client.queue_close_notify()
    two.move(two.client)
    assert (read(two.server), two.client.outbound) == (b"", Outbound.CLOSE_NOTIFY_SENT)


def test_a_clean_end_that_was_interrupted_is_clean(ca: trustme.CA, version: str) -> None:
    raiser, two = interruptible(ca, version)
    two.shake_hands()
    two.settle()
    assert read(two.client) is None
    two.server.queue_close_notify()
    two.move(two.server)
    raiser.armed = True

    def read_and_answer() -> None:
        read(two.client)
        two.client.queue_close_notify()  # CPython tells of it with the next call only; in TLS 1.2 that comes by itself.

    with pytest.raises(Interruption):
        read_and_answer()
    two.move(two.client)
    assert (read(two.client), two.client.verdict()) == (b"", How.CLEAN)


def test_what_the_caller_is_handling_is_not_taken_for_an_interruption(ca: trustme.CA, version: str) -> None:
    _, two = interruptible(ca, version)
    try:
        raise Interruption
    except Interruption:
        assert two.client.handshake() is False
        two.shake_hands()
        assert read(two.client) is None
        two.client.queue_close_notify()
    assert two.client.outbound is Outbound.CLOSE_NOTIFY_QUEUED


def test_what_the_sni_function_raises_comes_out_of_the_handshake(ca: trustme.CA, version: str) -> None:
    def interrupt(_: str) -> ssl.SSLContext | None:
        raise Interruption

    client, server = contexts(ca, version)
    main = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("peer.example").configure_cert(main)
    main.sni_callback = sni_callback(interrupt, server)
    two = pair(client, main)
    assert two.client.handshake() is False
    two.move(two.client)
    with pytest.raises(Interruption):
        two.server.handshake()


def test_others_who_use_the_context_meet_what_was_raised_as_without_us(ca: trustme.CA) -> None:
    """A callback that was there raises in a connection that is not ours: its error is told as the library tells it."""
    raiser, _ = interruptible(ca, "1.3")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context._msg_callback = raiser  # type: ignore[attr-defined]
    hook.prepare(context)
    other = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="peer.example")
    raiser.armed = True
    with pytest.raises(ssl.SSLWantReadError) as caught:
        other.do_handshake()
    assert isinstance(caught.value.__context__, Interruption)


class Interrupting:
    """An OpenSSL that a signal handler's exception ends before anything was encrypted."""

    def write(self, _: object) -> int:
        raise Interruption


def test_a_write_that_was_interrupted_before_it_began_queues_nothing(
    two: EnginePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two.client.outgoing._openssl, "tls", Interrupting())
    with pytest.raises(Interruption):
        two.client.outgoing.write(memoryview(b"nothing of it"))
    assert two.client.outgoing.head() is None


class Failing:
    """An OpenSSL that reports an error, and within whose call a signal handler raised."""

    def write(self, _: object) -> int:
        try:
            raise Interruption
        except Interruption:
            raise ssl.SSLWantReadError  # noqa: B904  (as CPython does it: the exception is the error's context)


def test_a_write_that_failed_and_was_interrupted_raises_and_keeps_what_it_was_given(
    two: EnginePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two.client.outgoing._openssl, "tls", Failing())
    with pytest.raises(Interruption) as caught:
        two.client.outgoing.write(memoryview(b"nothing of it"))
    assert bytes(two.client.outgoing.unencrypted) == b"nothing of it"
    assert not two.client.tear(caught.value), "the engine knows what became of it"
    assert two.client.torn == ""


def test_what_the_sni_function_raises_for_others_is_left_to_the_library(ca: trustme.CA) -> None:
    def interrupt(_: str) -> ssl.SSLContext | None:
        raise Interruption

    main = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs = main.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(Interruption):
        sni_callback(interrupt, main)(theirs, "peer.example", main)
