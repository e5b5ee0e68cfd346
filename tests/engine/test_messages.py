"""What the engine counts of messages and sends that were cut short, and what its verdict then is."""

from __future__ import annotations

import pytest

from bowout._core.outgoing import WRITE_SIZE
from bowout.ending import How
from bowout.errors import AlertReceived, BowoutError
from helpers.engines import EnginePair, read_all, take

MUCH = bytes(2 * WRITE_SIZE)


def write(two: EnginePair, data: bytes) -> None:
    outgoing = two.client.outgoing
    outgoing.unencrypted = memoryview(data)
    while outgoing.write_more():
        pass
    two.move(two.client)


def end_both(two: EnginePair) -> None:
    """Exchange close_notify, whatever is missing before it."""
    for engine in (two.client, two.server):
        engine.queue_close_notify()
        two.move(engine)
        read_all(two.other(engine))
    two.client.sent_fin()


class TestMessages:
    def test_one_that_sent_nothing_cuts_nothing(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        outgoing.end_message(outgoing.begin_message(), whole=False)
        assert (outgoing.interrupted, outgoing.message_cut, outgoing.whole) == (False, False, True)

    def test_one_that_is_whole_cuts_nothing(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        began = outgoing.begin_message()
        write(two, b"all of it")
        outgoing.end_message(began, whole=True)
        assert (outgoing.interrupted, outgoing.message_cut, outgoing.whole) == (False, False, True)

    def test_one_after_other_data_is_cut_if_it_sent_something(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        write(two, b"before")
        began = outgoing.begin_message()
        assert began == len(b"before")
        states = [outgoing.amid_message]
        write(two, b"half")
        states.append(outgoing.amid_message)
        assert states == [False, True]
        outgoing.end_message(began, whole=False)
        assert (outgoing.interrupted, outgoing.message_cut, outgoing.whole) == (True, True, False)

    def test_one_that_goes_on_at_the_end_is_cut(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        outgoing.begin_message()
        write(two, b"half")
        outgoing.give_up()
        assert outgoing.message_cut is True
        end_both(two)
        assert two.client.verdict() is How.UNFLUSHED
        assert two.client.build_ending().how is How.UNFLUSHED

    def test_what_was_accepted_is_counted_over_all_sends(self, two: EnginePair) -> None:
        for size in (1, 2, 3):
            write(two, bytes(size))
        assert two.client.outgoing.begin_message() == 6


class TestSendsThatAreCutShort:
    def test_a_send_is_encrypted_piece_by_piece(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        assert outgoing.write(memoryview(MUCH)) == WRITE_SIZE
        assert len(outgoing.unencrypted) == WRITE_SIZE
        assert outgoing.write_more() == WRITE_SIZE
        assert outgoing.write_more() == 0
        two.move(two.client)
        assert read_all(two.server) == MUCH

    def test_exactly_one_piece_leaves_nothing(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        assert outgoing.write(memoryview(MUCH[:WRITE_SIZE])) == WRITE_SIZE
        assert not outgoing.unencrypted

    def test_its_rest_is_unsent(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        outgoing.write(memoryview(MUCH))
        two.move(two.client)
        outgoing.interrupt()
        assert (outgoing.unsent, outgoing.interrupted, bytes(outgoing.unencrypted)) == (WRITE_SIZE, True, b"")
        outgoing.interrupt()
        assert outgoing.unsent == WRITE_SIZE

    def test_one_unsent_byte_is_enough_for_the_verdict(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        outgoing.unencrypted = memoryview(b"x")
        outgoing.interrupt()
        end_both(two)
        assert two.client.verdict() is How.UNFLUSHED

    def test_after_the_end_nothing_more_is_encrypted(self, two: EnginePair) -> None:
        outgoing = two.client.outgoing
        outgoing.unencrypted = memoryview(b"too late")
        two.client.send_failed()
        assert outgoing.write_more() == 0
        assert bytes(outgoing.unencrypted) == b"too late"


class TestTornEngines:
    def test_an_exception_from_elsewhere_tears(self, two: EnginePair) -> None:
        assert two.client.tear(KeyboardInterrupt()) is True
        assert two.client.torn == "KeyboardInterrupt"

    def test_one_that_was_handed_on_does_not(self, two: EnginePair) -> None:
        error = KeyboardInterrupt()
        two.client.hand_on(error)
        assert two.client.tear(error) is False
        assert two.client.torn == ""
        assert two.client.tear(error) is True  # It was handed on once.


def test_an_alert_that_refuses_nothing_says_no_more(two: EnginePair) -> None:
    two.client.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))  # It cannot be decrypted: the client sends an alert.
    with pytest.raises(BowoutError):
        read_all(two.client)
    two.server.receive_data(take(two.client))
    with pytest.raises(AlertReceived, match=r"alert: bad_record_mac$"):
        read_all(two.server)
