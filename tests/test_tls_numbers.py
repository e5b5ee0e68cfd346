from __future__ import annotations

import ssl

import pytest

from bowout import _tls_numbers
from bowout._tls_numbers import (
    ALERT_CODES,
    ALERT_NAMES,
    CLOSE_NOTIFY,
    FATAL,
    TLS12_NAME,
    TLS13_NAME,
    USER_CANCELED,
    VERSION_NAMES,
    VERSION_PINS,
    WARNING,
    is_fatal,
)


def test_the_names_of_alerts_are_those_of_the_standard_library() -> None:
    for code in ssl.AlertDescription:
        theirs = code.name.removeprefix("ALERT_DESCRIPTION_").lower()
        assert ALERT_NAMES[code] == theirs.replace("cancelled", "canceled")  # The RFC has one l.


def test_every_alert_is_found_by_its_name() -> None:
    assert {ALERT_CODES[name]: name for name in ALERT_NAMES.values()} == ALERT_NAMES


def test_alerts_that_the_code_acts_on_are_named_as_in_the_registry() -> None:
    constants = {"CLOSE_NOTIFY", "DECODE_ERROR", "USER_CANCELED", "NO_RENEGOTIATION", "UNRECOGNIZED_NAME"}
    for name in {*constants, "NO_APPLICATION_PROTOCOL"}:
        assert ALERT_NAMES[getattr(_tls_numbers, name)] == name.lower()


@pytest.mark.parametrize("version", VERSION_PINS)
def test_a_pinned_version_is_agreed_on_under_its_name(version: str) -> None:
    assert VERSION_PINS[version].name == VERSION_NAMES[version].replace(".", "_")


@pytest.mark.parametrize(
    ("code", "level", "version", "fatal"),
    [
        (CLOSE_NOTIFY, WARNING, TLS13_NAME, False),
        (CLOSE_NOTIFY, FATAL, TLS13_NAME, False),
        (USER_CANCELED, FATAL, TLS13_NAME, False),
        (80, WARNING, TLS13_NAME, True),
        (200, 0, TLS13_NAME, True),
        (CLOSE_NOTIFY, WARNING, TLS12_NAME, False),
        (CLOSE_NOTIFY, FATAL, TLS12_NAME, True),
        (USER_CANCELED, WARNING, TLS12_NAME, False),
        (80, WARNING, TLS12_NAME, False),
        (80, FATAL, "TLSv1.1", True),
        (80, WARNING, None, False),
        (80, FATAL, None, True),
    ],
)
def test_which_alerts_are_fatal(code: int, level: int, version: str | None, *, fatal: bool) -> None:
    assert is_fatal(code, level, version) is fatal
