"""Data in both directions: what was sent, what was not, and the memory that it takes."""

from __future__ import annotations

import gc
import re
import ssl
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from bowout._core.engine import Engine
from bowout._core.outgoing import WRITE_SIZE
from bowout._core.records import HEADER_SIZE, MAX_PLAINTEXT
from bowout.errors import PeerClosed, ProtocolViolation
from helpers.engines import (
    close_notify,
    read,
    read_all,
    read_out,
    send,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.engine import Engine


# -- data ------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(us: Engine, them: Engine) -> None:
    send(us, b"hello")
    them.receive_data(take(us))
    assert read(them) == b"hello"


def test_a_large_message_arrives_whole(us: Engine, them: Engine) -> None:
    data = bytes(range(256)) * 1500
    send(us, data)
    them.receive_data(take(us))
    assert read_all(them) == data


def test_one_write_takes_so_much_and_no_more(us: Engine) -> None:
    assert us.outgoing.write(memoryview(bytes(1_000_000))) == WRITE_SIZE


def test_an_openssl_that_writes_no_more_after_close_notify_is_not_waited_for(
    us: Engine, them: Engine, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody will send the other half of a message then; OpenSSL 3.6 does it where user_canceled came first."""

    class Mute:
        def __getattr__(self, name: str) -> object:
            return getattr(tls, name)

        def write(self, data: memoryview) -> int:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"no room for {len(data)}")

    tls = us.tls
    monkeypatch.setattr(us.outgoing._openssl, "tls", Mute())
    if version == "1.3":  # in 1.2 the peer's close_notify ends our direction anyhow
        assert us.outgoing.write(memoryview(b"x")) == 0
    us.receive_data(close_notify(them))
    assert read(us) == b""
    way = "in a way after which OpenSSL writes no more" if version == "1.3" else "which in TLS 1.2 ends both directions"
    words = f"^the peer sent close_notify,? {re.escape(way)}$"
    with pytest.raises(PeerClosed, match=words):
        us.outgoing.write(memoryview(b"x"))


def test_without_input_a_read_waits(us: Engine) -> None:
    assert read(us) is None


def test_half_a_record_is_not_read(us: Engine, them: Engine) -> None:
    send(us, b"hello")
    them.receive_data(take(us)[:-1])
    assert read(them) is None


def test_a_small_buffer_is_filled_again_and_again(us: Engine, them: Engine) -> None:
    send(us, b"hello")
    them.receive_data(take(us))
    assert [read(them, 2), read(them, 2), read(them, 2), read(them, 2)] == [b"he", b"ll", b"o", None]


def test_input_that_comes_while_some_is_unread_waits_behind_it(us: Engine, them: Engine) -> None:
    send(us, bytes(100_000))
    them.receive_data(take(us))
    send(us, b"last")
    them.receive_data(take(us))
    assert read_all(them) == bytes(100_000) + b"last"


def test_the_memory_of_input_may_be_used_again(us: Engine, them: Engine) -> None:
    send(us, bytes(range(250)) * 400)
    memory = bytearray(take(us))
    them.receive_data(memoryview(memory))
    memory[:] = bytes(len(memory))
    assert read_all(them) == bytes(range(250)) * 400


def test_output_is_the_same_until_it_is_taken(us: Engine) -> None:
    send(us, b"hello")
    first = bytes(us.outgoing.head() or b"")
    assert (bytes(us.outgoing.head() or b""), len(first)) == (first, us.outgoing.size)


def test_the_output_size_goes_down_as_it_is_taken(us: Engine) -> None:
    send(us, b"hello")
    before = us.outgoing.size
    take(us, 3)
    assert us.outgoing.size == before - 3


def test_sent_is_what_the_kernel_took(us: Engine) -> None:
    send(us, bytes(100))
    queued = us.build_ending().sent
    take(us)
    assert (queued, us.build_ending().sent) == (0, 100)


def test_received_is_what_was_decrypted(us: Engine, them: Engine) -> None:
    send(us, bytes(100))
    them.receive_data(take(us))
    read_all(them)
    assert them.build_ending().received == 100


@pytest.mark.parametrize(
    ("taken", "sent"), [(0, 0), (100, 0), (MAX_PLAINTEXT + 100, MAX_PLAINTEXT), (50_000, 3 * MAX_PLAINTEXT)]
)
def test_records_that_were_not_wholly_taken_are_unsent(us: Engine, taken: int, sent: int) -> None:
    total = 2 * WRITE_SIZE + 10
    send(us, bytes(total))
    take(us, taken)
    end = us.build_ending()
    assert (end.sent, end.unsent) == (sent, total - sent)


def test_what_a_failed_send_leaves_is_unsent(us: Engine) -> None:
    send(us, bytes(3 * WRITE_SIZE))
    take(us, WRITE_SIZE + 40_000)
    us.send_failed()
    end = us.build_ending()
    assert (end.sent, end.unsent) == (WRITE_SIZE + 2 * MAX_PLAINTEXT, 2 * WRITE_SIZE - 2 * MAX_PLAINTEXT)


def test_what_never_came_to_be_encrypted_is_unsent(us: Engine) -> None:
    us.outgoing.unencrypted = memoryview(bytes(7))
    us.outgoing.interrupt()
    assert us.build_ending().unsent == 7
    assert us.outgoing.interrupted


def test_what_another_has_not_passed_on_is_unsent(us: Engine) -> None:
    us.outgoing.count_unsent(7)
    assert us.build_ending().unsent == 7


def test_what_the_application_left_unread_is_discarded(us: Engine) -> None:
    us.incoming.count_discarded(7)
    assert us.build_ending().discarded == 7


# -- memory ----------------------------------------------------------------------------------------------------------


def held_after(burst: Callable[[], None]) -> int:
    """How much more Python holds after `burst` than before."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        burst()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


def test_an_engine_is_small_again_after_a_burst_of_input(us: Engine, them: Engine) -> None:
    def burst() -> None:
        send(them, bytes(1 << 18))
        us.receive_data(take(them))
        assert len(read_all(us)) == 1 << 18

    assert held_after(burst) < 1 << 14


def test_an_engine_is_small_again_after_a_burst_of_output(us: Engine) -> None:
    def burst() -> None:
        send(us, bytes(1 << 20))
        take(us)

    assert held_after(burst) < 1 << 14


def test_an_engine_is_small_again_after_reading_what_it_held(us: Engine, them: Engine) -> None:
    def burst() -> None:
        send(them, bytes(1 << 18))
        us.receive_data(take(them))
        close_notify(us)
        read_all(us)

    assert held_after(burst) < 1 << 14


def test_openssl_is_fed_a_record_at_a_time(us: Engine, them: Engine) -> None:
    send(them, bytes(1 << 18))
    us.receive_data(take(them))
    most = 0
    while read(us, 1000):
        most = max(most, us.incoming.queue._bio.pending)
    assert most == 0  # OpenSSL took out what it was given, and was given no more.


@pytest.mark.parametrize("first", [1, HEADER_SIZE, 1000, 5000])
def test_the_first_large_record_may_come_in_pieces(us: Engine, them: Engine, first: int) -> None:
    """Room for the largest is made before it is given to OpenSSL, and must not cost what OpenSSL was given before."""
    data = bytes(range(256)) * 64
    send(them, data)
    record = take(them)
    us.receive_data(record[:first])
    assert read(us) is None
    us.receive_data(record[first:])
    assert read_out(us)[0] == data


def test_half_a_record_waits_in_openssl(us: Engine, them: Engine) -> None:
    send(them, bytes(1 << 14))
    data = take(them)
    read_all(us)
    us.receive_data(data[:10_000])
    assert (read(us), us.incoming.queue._bio.pending) == (None, 10_000)


def test_a_broken_record_is_met_before_it_is_whole(us: Engine) -> None:
    read_all(us)
    us.receive_data(b"\x17\x03\x03\xff\xff")
    data, error = read_out(us)
    assert (data, type(error)) == (b"", ProtocolViolation)


def test_several_records_fill_one_buffer(us: Engine, them: Engine) -> None:
    for _ in range(5):
        send(them, bytes(100))
    us.receive_data(take(them))
    assert [len(read(us, 250) or b"") for _ in range(2)] == [250, 250]


def test_input_is_read_from_where_it_was_received(us: Engine, them: Engine) -> None:
    for size in (100, 20_000, 1):
        send(them, bytes(size))
    memory = bytearray(take(them))
    buffer = memoryview(bytearray(15_000))
    first = us.receive_and_read(memoryview(memory), buffer)
    memory[:] = bytes(len(memory))
    assert (first, len(read_all(us))) == (15_000, 5_101)


def test_input_after_the_end_is_read_as_the_end(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    buffer = memoryview(bytearray(100))
    assert (read(us), us.receive_and_read(b"late", buffer)) == (b"", 0)


def test_every_byte_is_read_through_the_small_feed(us: Engine, them: Engine) -> None:
    send(them, bytes(1 << 18))
    us.receive_data(take(them))
    assert len(read_all(us)) == 1 << 18
