"""`bowout check` against servers as people run them: each has the verdicts that ``check.toml`` records."""

from __future__ import annotations

import asyncio
import runpy
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from bowout.check import PROBES, Report
from bowout.check._opener import Pace
from bowout.check._probes import LARGE_ANSWER
from helpers.checking import full, prepared
from helpers.compiled import shared_directory
from helpers.peers import ROOT
from helpers.starttls_servers import Home
from helpers.wire import VERSIONS, Version, authority, client_context
from interop.checked import SERVERS, CheckedServer, prepare

DATA: Final[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("check.toml").read_text(encoding="utf-8"))
#: A server that acts has a long time for it; one that is silent has to be sat out.
PACE: Final = Pace(total=300, opening=60, connection=4, gap=0.0, after=2, close=0.5, large=120)


def expected(server: CheckedServer, version: Version) -> dict[str, list[str]]:
    """The verdicts that each probe may have."""
    about = DATA[server.name]
    cells = dict.fromkeys(PROBES, "OK") | about["cells"] | about.get(f"tls {version}", {})
    left_out = [] if server.idle else ["idle"]
    if server.protocol != "http":
        left_out += LARGE_ANSWER
    for probe in left_out:
        del cells[probe]
    return {probe: [cell] if isinstance(cell, str) else list(cell["odds"]) for probe, cell in cells.items()}


def test_each_server_has_its_data() -> None:
    assert DATA.keys() == SERVERS.keys()
    for about in DATA.values():
        assert about.keys() <= {"version", "note", "cells", "tls 1.2", "tls 1.3"}
        for table in (about["cells"], about.get("tls 1.2", {}), about.get("tls 1.3", {})):
            assert table.keys() <= set(PROBES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_its_verdicts(name: str, version: Version, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = SERVERS[name]
    server.require()

    async def main(port: int) -> Report:
        idle = 60.0 if server.idle else None
        large = "/big" if server.protocol == "http" else None
        asked = prepared(
            port, client_context(version), protocol=server.protocol, starttls=server.starttls, pace=PACE, large=large,
            idle=idle,
        )  # fmt: skip
        return await full(asked, intrusive=True)

    allowed = expected(server, version)

    def differing(report: Report) -> dict[str, str]:
        return {
            each.probe: f"{each.verdict}: {each.says}"
            for each in report.findings
            if str(each.verdict) not in allowed[each.probe]
        }

    with Home.create(authority()) as home:
        prepare(home)
        with server.start(home, shared_directory(tmp_path_factory)) as port:
            report = asyncio.run(main(port))
            wrong = differing(report)
            if wrong:  # A server that nearly always loses a race within itself may have won it once.
                again = differing(asyncio.run(main(port)))
                wrong = {probe: text for probe, text in wrong.items() if probe in again}
    assert not wrong, f"{name} {server.here} (recorded: {DATA[name]['version']}), TLS {version}"
    assert {each.probe for each in report.findings} == allowed.keys()


def test_the_page_has_the_table_of_the_data() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "generate_check.py"))["page"]
    text = (ROOT / "docs" / "reference" / "check.md").read_text(encoding="utf-8")
    assert page(text) == text
