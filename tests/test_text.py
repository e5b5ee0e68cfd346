"""Text for people: made harmless, measured, and set in lines. The pictures test sizes and times, too."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout._text import cell, clip, clock, columns, escape, flow, size, step, wrap

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ü 日本 🙂", "plain text, ü 日本 🙂"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x00\x07\r\n\t", r"\x00\x07\r\n\t"),
        ("\x7f\x85\x9b", r"\x7f\x85\x9b"),
        ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
        ("\u200b\ufeff\u00ad", r"\u200b\ufeff\xad"),
        ("\u2028\u2029\u00a0\u3000", r"\u2028\u2029\xa0\u3000"),
        ("\u3164\ufe0f\U000e0100", r"\u3164\ufe0f\U000e0100"),
        ("\U000e0041\ufffe", r"\U000e0041\ufffe"),
        ("\udc80", r"\udc80"),
    ],
    ids=[
        "printable text stays",
        "escape sequence",
        "C0",
        "DEL and C1",
        "bidirectional controls",
        "zero width",
        "separators and odd spaces",
        "invisible letters and marks",
        "tags and noncharacters",
        "surrogate",
    ],
)
def test_what_does_not_print_as_itself_is_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_of_bytes_only_printable_ascii_is_shown_as_it_is() -> None:
    assert escape(b"250 ok\x1b[0m caf\xc3\xa9\r\n") == r"250 ok\x1b[0m caf\xc3\xa9\r\n"


def test_ascii_only_escapes_printable_unicode_too() -> None:
    assert escape("é日🙂~", ascii_only=True) == r"\xe9\u65e5\U0001f642~"


@given(ANY_TEXT)
def test_escaping_twice_changes_nothing(text: str) -> None:
    assert escape(escape(text)) == escape(text)


@given(ANY_TEXT)
def test_no_control_or_format_character_is_left(text: str) -> None:
    assert not {unicodedata.category(char) for char in escape(text)} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.binary())
def test_escaped_bytes_are_printable_ascii(data: bytes) -> None:
    assert all(" " <= char <= "~" for char in escape(data))


@pytest.mark.parametrize(("text", "width"), [("plain", 5), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_a_text_is_as_wide_as_a_terminal_shows_it(text: str, width: int) -> None:
    assert columns(text) == width


def test_a_long_text_loses_its_middle() -> None:
    assert [clip("mail.example:465", room) for room in (16, 15, 8)] == [
        "mail.example:465",
        "mail.ex…ple:465",
        "mail…465",
    ]


def test_a_text_breaks_at_its_spaces_where_it_can() -> None:
    assert wrap("one two verylongword", 8) == ["one two", "verylong", "word"]


def test_parts_stand_side_by_side_as_long_as_they_fit() -> None:
    assert flow(("one", "two", "three"), 9) == ["one · two", "three"]


@given(st.floats(allow_nan=True), st.integers(0, 1 << 80))
def test_a_time_and_a_size_are_short(seconds: float, count: int) -> None:
    assert len(clock(seconds)) <= 8
    assert size(count).endswith("B")


@given(st.floats(0, 1, exclude_max=True))
def test_a_step_of_less_than_a_second_is_short(seconds: float) -> None:
    assert len(step(seconds)) <= 8


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "＋1", "－1", "＠x"],  # noqa: RUF001
)
def test_a_cell_is_no_formula(text: str) -> None:
    assert cell(text) == f"'{escape(text)}"


def test_a_cell_keeps_numbers_and_escapes_text() -> None:
    assert (cell(-1), cell(1.5), cell(None), cell("a=b\x1b")) == ("-1", "1.5", "", "a=b\\x1b")
