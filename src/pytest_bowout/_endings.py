"""The mark `tls_endings`: which endings of the catalogue a test runs with."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from pytest_bowout._extra import testing

if TYPE_CHECKING:
    import enum

    from bowout.testing import Entry, Expect, PeerRole, TLSVersion

_VERSIONS: Final = ("1.2", "1.3")
_ROLES: Final = ("server", "client")


@dataclass(frozen=True, slots=True)
class TLSEnding:
    """The value of the fixture `tls_ending`: one ending, with a version of TLS and a role of the peer.

        def test_mine(tls_ending, tls_peer):
            peer = tls_peer(tls_ending)

    Attributes:
        entry: the entry of the catalogue `bowout.testing.ENDINGS`.
        tls: the version.
        role: the role of the peer; the code under test has the other.
    """

    entry: Entry
    tls: TLSVersion
    role: PeerRole

    @property
    def name(self) -> str:
        """The name of the ending."""
        return self.entry.name

    @property
    def expect(self) -> Expect:
        """The correct result."""
        return self.entry.expect(self.tls, self.role)

    def __str__(self) -> str:
        return f"{self.name}-{self.tls}"


def chosen(args: tuple[object, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the parameters for a mark with these arguments.

    A mistake in the arguments fails the collection of the test: an unknown ending, or no ending left to run with.
    """
    if args:
        _refuse("takes keyword arguments only")
    return _chosen(testing(), **_known(kwargs))


def _chosen(
    kit: Any,
    *,
    role: object = "server",
    tls: object = _VERSIONS,
    rows: object = None,
    names: object = None,
    without: object = None,
    you: object = None,
    outcome: object = None,
    xfail: object = None,
) -> list[Any]:
    if role not in _ROLES:
        _refuse(f"has role={role!r}: it must be one of {_listed(_ROLES)}")
    versions = _several(tls)
    for version in versions:
        if version not in _VERSIONS:
            _refuse(f"has tls={version!r}: it must be one of {_listed(_VERSIONS)}")
    endings = kit.ENDINGS
    named = _matching(endings, "names", names) if names is not None else set(endings)
    named -= _matching(endings, "without", without)
    wanted_rows = None if rows is None else set(_several(rows))
    wanted_you = _members(kit.You, "you", you)
    wanted_outcomes = _members(kit.Outcome, "outcome", outcome)
    cases = [
        TLSEnding(entry, version, role)  # type: ignore[arg-type]  # both were checked above
        for entry in endings.values()
        if entry.name in named and (wanted_rows is None or entry.row in wanted_rows) and entry.you in wanted_you
        for version in versions
        if entry.exists(version, role) and entry.expect(version, role).outcome in wanted_outcomes
    ]
    if not cases:
        _refuse("leaves no ending to run with")
    reasons = _reasons(cases, {} if xfail is None else xfail)
    return [pytest.param(case, id=str(case), marks=reasons.get(case, ())) for case in cases]


_PARAMETERS: Final = tuple((_chosen.__kwdefaults__ or {}).keys())


def _known(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in kwargs:
        if name not in _PARAMETERS:
            _refuse(f"takes no argument {name!r}; the arguments are {_listed(_PARAMETERS)}")
    return kwargs


def _matching(endings: Iterable[str], argument: str, patterns: object) -> set[str]:
    """Return the names that match a pattern; each pattern must match at least one name."""
    found: set[str] = set()
    for pattern in () if patterns is None else _several(patterns):
        matches = fnmatch.filter(endings, str(pattern).replace("-", "_"))
        if not matches:
            _refuse(f"has {argument}={pattern!r}, which no ending is called")
        found.update(matches)
    return found


def _members(kind: type[enum.Enum], argument: str, wanted: object) -> set[Any]:
    """Return members of `kind`, given as members or as names in lower or upper case; all for None."""
    if wanted is None:
        return set(kind)
    found = set()
    for value in _several(wanted):
        if isinstance(value, kind):
            found.add(value)
        elif str(value).upper() in kind.__members__:
            found.add(kind[str(value).upper()])
        else:
            _refuse(f"has {argument}={value!r}: it must be one of {_listed(name.lower() for name in kind.__members__)}")
    return found


def _reasons(cases: list[TLSEnding], xfail: object) -> dict[TLSEnding, pytest.MarkDecorator]:
    """Return a strict xfail mark, with its reason, for each case that is known to fail."""
    if not isinstance(xfail, Mapping):
        _refuse("has an xfail that is not a mapping of names to reasons")
    marks = {}
    for pattern, reason in xfail.items():
        matches = [case for case in cases if fnmatch.fnmatch(case.name, pattern) or fnmatch.fnmatch(str(case), pattern)]
        if not matches:
            _refuse(f"has xfail={pattern!r}, which none of its endings is called")
        for case in matches:
            marks[case] = pytest.mark.xfail(reason=str(reason), strict=True)
    return marks


def _several(value: object) -> tuple[object, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (value,)
    return tuple(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _refuse(why: str) -> NoReturn:
    pytest.fail(f"the mark tls_endings {why}", pytrace=False)
