"""What is known of the other stacks: the data of ``expectations.toml``, and how an observation is compared with it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from bowout import Ending

DATA: Final = Path(__file__).with_name("expectations.toml")

#: What an entry tells of the observation; what it leaves out is the default.
DEFAULTS: Final[dict[str, Any]] = {"outbound": "close_notify and FIN sent", "they_got": "all", "we_got": "all"}
FACTS: Final = ("how", "started_by", "inbound", "outbound", "we_got", "they_got", "peer_saw")
#: What an entry tells besides.
BESIDES: Final = ("tls", "since", "before", "note")

Observation = dict[str, str]
"""The facts, by name."""

Key = tuple[str, str, str, str]
"""Stack, its role, scenario, version of TLS."""


@dataclass(frozen=True)
class Expectation:
    """One way in which a scenario may end.

    Attributes:
        facts: those that it tells: each a value, or a list of those that may come.
        tls: the versions of TLS that it is about.
        since, before: the versions of the stack that it is about.
        note: why, where that is worth saying.
    """

    facts: dict[str, Any]
    tls: tuple[str, ...]
    since: str
    before: str
    note: str

    def applies(self, version: str) -> bool:
        """Whether it is about this version of the stack."""
        here = _numbers(version)
        return not (self.since and here < _numbers(self.since)) and not (self.before and here >= _numbers(self.before))

    def differs(self, seen: Observation) -> dict[str, str]:
        """The facts in which it is not what was seen, each with words for it."""
        return {
            name: f"{name}: {seen[name]!r}, and not {wanted!r}"
            for name, wanted in self.facts.items()
            if seen[name] not in (wanted if isinstance(wanted, list) else [wanted])
        }


def load() -> dict[Key, list[Expectation]]:
    """All entries."""
    found: dict[Key, list[Expectation]] = {}
    for stack, about in tomllib.loads(DATA.read_text(encoding="utf-8")).items():
        for role in ("server", "client"):
            for scenario, entries in about.get(role, {}).items():
                for entry in map(_entry, entries if isinstance(entries, list) else [entries]):
                    for tls in entry.tls:
                        found.setdefault((stack, role, scenario, tls), []).append(entry)
    return found


def observation(ending: Ending, saw: str, *, we_got: str = "all", they_got: str = "all") -> Observation:
    """What was seen, on both sides."""
    return {
        "how": ending.how.value,
        "started_by": ending.started_by.value if ending.started_by else "",
        "inbound": ending.inbound.value,
        "outbound": ending.outbound.value,
        "we_got": we_got,
        "they_got": they_got,
        "peer_saw": saw,
    }


def words_differ(key: Key, here: str, seen: Observation) -> bool:
    """Whether all is as it should be, but for the words of the other stack: it may have lost a race within itself."""
    return any(entry.differs(seen).keys() == {"peer_saw"} for entry in EXPECTED.get(key, ()) if entry.applies(here))


def check(key: Key, here: str, seen: Observation) -> None:
    """Fail unless an entry says just this of the version that is here."""
    found = [entry.differs(seen) for entry in EXPECTED.get(key, ()) if entry.applies(here)]
    if {} not in found:
        told = "\n".join("; ".join(differences.values()) for differences in found) or "no entry is about it"
        facts = ", ".join(f"{name} = {json.dumps(value)}" for name, value in seen.items() if value != "all")
        pytest.fail(f"{' / '.join(key)}, version {here}: {told}\nas it was: {{ {facts} }}", pytrace=False)


def _entry(table: dict[str, Any]) -> Expectation:
    unknown = table.keys() - {*FACTS, *BESIDES}
    assert not unknown, f"unknown: {unknown}"
    missing = set(FACTS) - table.keys() - DEFAULTS.keys()
    assert not missing, f"missing in {table}: {missing}"
    tls = table.get("tls", ["1.2", "1.3"])
    return Expectation(
        facts={name: table.get(name, DEFAULTS.get(name)) for name in FACTS},
        tls=tuple(tls if isinstance(tls, list) else [tls]),
        since=table.get("since", ""),
        before=table.get("before", ""),
        note=table.get("note", ""),
    )


def _numbers(version: str) -> list[int]:
    """Nmap's 7.991 comes after 7.99 and 7.95, as its own numbering has it."""
    return [int(part) for part in version.split(".") if part.isdigit()]


EXPECTED: Final = load()
