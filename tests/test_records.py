"""Record boundaries, and what a partly taken chunk of output is worth."""

from __future__ import annotations

import itertools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout._core.buffers import ChunkKind, InputQueue, OutputQueue
from bowout._core.records import MAX_PLAINTEXT, RecordScanner, looks_like_tls, plaintext_taken


def record(size: int, content_type: int = 23) -> bytes:
    return bytes([content_type, 3, 3]) + size.to_bytes(2) + bytes(size)


def scanned(*pieces: bytes) -> RecordScanner:
    scanner = RecordScanner()
    for piece in pieces:
        at = 0
        while at < len(piece):
            at = scanner.scan(piece, at)
    return scanner


def test_an_empty_stream_is_at_a_boundary() -> None:
    assert not scanned().inside_record


def test_whole_records_end_at_a_boundary() -> None:
    assert not scanned(record(3) + record(0) + record(400)).inside_record


@pytest.mark.parametrize("cut", [1, 4])
def test_a_cut_header_is_inside_a_record(cut: int) -> None:
    assert scanned(record(3) + record(7)[:cut]).inside_record


def test_a_header_without_its_body_is_inside_a_record() -> None:
    assert scanned(record(7)[:5]).inside_record


def test_a_cut_body_is_inside_a_record() -> None:
    assert scanned(record(7)[:-1]).inside_record


def test_an_empty_record_is_whole_with_its_header() -> None:
    assert not scanned(record(0)).inside_record


@given(st.lists(st.integers(0, 300), max_size=5), st.data())
def test_inside_is_told_at_every_byte_however_the_stream_is_split(sizes: list[int], data: st.DataObject) -> None:
    stream = b"".join(record(size) for size in sizes)
    cut = data.draw(st.integers(0, len(stream)))
    pieces = sorted([*data.draw(st.lists(st.integers(0, cut), max_size=6)), 0, cut])
    boundaries = {sum(size + 5 for size in sizes[:n]) for n in range(len(sizes) + 1)}
    scanner = scanned(*(stream[a:b] for a, b in itertools.pairwise(pieces)))
    assert scanner.inside_record == (cut not in boundaries)


def test_a_memoryview_is_scanned_too() -> None:
    scanner = RecordScanner()
    scanner.scan(memoryview(record(7))[:6])
    assert scanner.inside_record


def test_a_scan_stops_at_the_end_of_a_record() -> None:
    data = record(3) + record(0) + record(7)
    scanner = RecordScanner()
    ends = [scanner.scan(data), scanner.scan(data, 8), scanner.scan(data, 13), scanner.scan(data[:3])]
    assert ends == [8, 13, len(data), 3]


@pytest.mark.parametrize(
    ("header", "sound"),
    [
        ("1703034000", True),
        ("1703034100", True),
        ("1703034101", False),
        ("1503030002", False),
        ("1603030002", False),
        ("1703020002", False),
        ("1702030002", False),
    ],
)
def test_only_a_record_that_can_be_application_data_is_waited_for(header: str, sound: bool) -> None:
    assert scanned(bytes.fromhex(header)).sound is sound


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"", True),
        (b"\x16", True),
        (b"\x16\x03\x01", True),
        (b"\x15\x03\x03\x00\x02", True),
        (b"\x16\x02", False),
        (b"HTTP/1.1", False),
        (b"2", False),
        (b"\x19\x03", False),
    ],
)
def test_tls_is_told_from_other_things(start: bytes, expected: bool) -> None:
    assert looks_like_tls(start) is expected


# -- what was taken --------------------------------------------------------------------------------------------------

FULL = MAX_PLAINTEXT + 17
CHUNK = record(FULL) * 3 + record(100 + 17)
SENT = 3 * MAX_PLAINTEXT + 100


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (0, 0),
        (1, 0),
        (FULL + 4, 0),
        (FULL + 5, MAX_PLAINTEXT),
        (2 * (FULL + 5), 2 * MAX_PLAINTEXT),
        (len(CHUNK) - 1, 3 * MAX_PLAINTEXT),
        (len(CHUNK), SENT),
    ],
)
def test_only_whole_records_are_worth_something(taken: int, expected: int) -> None:
    assert plaintext_taken(CHUNK, taken, SENT) == expected


def test_smaller_records_share_the_plaintext() -> None:
    assert plaintext_taken(record(517) * 4, 522, 2000) == 500


def test_smaller_records_before_a_shorter_one_carry_more_than_it() -> None:
    assert plaintext_taken(record(517) + record(517) + record(117), 1044, 1100) == 1000


def test_padding_of_smaller_records_makes_no_fractions() -> None:
    assert plaintext_taken(record(540) + record(540) + record(140), 545, 1101) == 500


def test_padding_of_full_records_does_not_count() -> None:
    assert plaintext_taken(record(16432) + record(1040), 16437, MAX_PLAINTEXT + 1000) == MAX_PLAINTEXT


@pytest.mark.parametrize(
    ("sizes", "plaintext", "in_the_first"),
    [
        ([MAX_PLAINTEXT + 17, 1017], MAX_PLAINTEXT + 1000, MAX_PLAINTEXT),
        ([517, 117], 600, 500),
        ([1017], 1000, 1000),
        ([22], 5, 5),
        ([18], 1, 1),
    ],
    ids=["full records", "smaller records", "one record", "one of its size", "one smaller than it"],
)
def test_a_key_update_in_front_of_data_carries_none_of_it(sizes: list[int], plaintext: int, in_the_first: int) -> None:
    update, *data = map(record, [22, *sizes])
    chunk = b"".join([update, *data])
    taken = [plaintext_taken(chunk, size, plaintext) for size in (1, len(update), len(update) + len(data[0]))]
    assert taken == [0, 0, in_the_first]


def queue(*chunks: tuple[bytes, ChunkKind, int]) -> OutputQueue:
    made = OutputQueue()
    for chunk in chunks:
        made.append(*chunk)
    return made


def test_an_empty_queue_has_no_head() -> None:
    assert queue().head() is None


def test_the_head_stays_until_it_is_taken() -> None:
    made = queue((b"abc", ChunkKind.DATA, 1))
    assert [bytes(made.head() or b"") for _ in range(2)] == [b"abc", b"abc"]


def test_the_rest_of_the_head_is_given_next() -> None:
    made = queue((b"abc", ChunkKind.DATA, 1))
    made.taken(1)
    assert bytes(made.head() or b"") == b"bc"


def test_taking_a_part_finishes_nothing() -> None:
    assert queue((b"abc", ChunkKind.DATA, 1)).taken(2) is None


def test_taking_the_last_byte_gives_what_the_chunk_carried() -> None:
    made = queue((b"abc", ChunkKind.DATA, 7), (b"d", ChunkKind.CLOSE_NOTIFY, 0))
    made.taken(2)
    assert made.taken(1) == (ChunkKind.DATA, 7)


def test_the_size_is_what_waits() -> None:
    made = queue((b"abc", ChunkKind.DATA, 1), (b"d", ChunkKind.CLOSE_NOTIFY, 0))
    made.taken(2)
    assert made.size == 2


def test_an_empty_queue_holds_no_plaintext() -> None:
    assert queue().plaintext() == (0, 0)


def test_what_has_not_begun_to_leave_is_untaken() -> None:
    assert queue((CHUNK, ChunkKind.DATA, SENT), (record(27), ChunkKind.DATA, 10)).plaintext() == (0, SENT + 10)


def test_a_half_taken_chunk_is_split_at_its_records() -> None:
    made = queue((CHUNK, ChunkKind.DATA, SENT), (record(27), ChunkKind.DATA, 10))
    made.taken(FULL + 5 + 1)
    assert made.plaintext() == (MAX_PLAINTEXT, SENT + 10 - MAX_PLAINTEXT)


def test_a_half_taken_alert_holds_no_plaintext() -> None:
    made = queue((record(19), ChunkKind.CLOSE_NOTIFY, 0))
    made.taken(3)
    assert made.plaintext() == (0, 0)


def test_a_cleared_queue_is_empty() -> None:
    made = queue((b"abc", ChunkKind.DATA, 1))
    made.clear()
    assert (made.head(), made.size) == (None, 0)


# -- the queue of input, handed over to the lane


def input_queue(*, all_at_once: bool = False, data: bytes = b"") -> InputQueue:
    made = InputQueue(ssl.MemoryBIO())
    if data:
        made.borrow(data)
        if all_at_once:
            made.feed_all()
        else:
            made.copy_rest()
    return made


def test_an_empty_queue_hands_nothing_over() -> None:
    made = input_queue()
    assert (made.can_hand_over, made.hand_over()) == (True, b"")


@pytest.mark.parametrize("missing", [1, 98, 100])
def test_a_begun_record_is_handed_over(missing: int) -> None:
    """And another one may begin."""
    begun = record(98)
    made = input_queue(data=begun[:-missing])
    assert made.can_hand_over
    assert made.hand_over() == begun[:-missing]
    assert (made.size, made.inside_record) == (0, False)
    made.borrow(begun[:50])
    made.copy_rest()
    assert made.hand_over() == begun[:50]


def test_a_whole_record_is_not_handed_over() -> None:
    assert not input_queue(data=record(3)).can_hand_over


def test_what_may_be_no_data_is_not_handed_over() -> None:
    made = input_queue(data=record(30, 22)[:8])
    made.ready = False  # OpenSSL has looked.
    assert not made.can_hand_over


def test_a_record_that_openssl_may_have_begun_to_read_is_not_handed_over() -> None:
    made = input_queue(data=record(30)[:8], all_at_once=True)
    made.ready = False
    assert not made.can_hand_over
    made.borrow(bytes(3))
    made.copy_rest()
    assert not made.can_hand_over
    made.borrow(bytes(24) + record(30)[:5])
    made.feed()
    made.ready = False
    made.copy_rest()
    assert made.can_hand_over
