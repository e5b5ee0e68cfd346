"""The scoreboard: a tiny run of it, its page, and the difference of two."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from bowout import Ending
from helpers.peers import ROOT
from helpers.scripts import load_script

SCRIPT: Final = ROOT / "scripts" / "scoreboard.py"
BOARDS: Final = sorted((ROOT / "scoreboard").glob("*.json"))
HOSTILE: Final = "<script>alert(1)</script>\"'&"


def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, env=env, cwd=ROOT
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return load_script(ROOT / "scripts" / "scoreboard_page.py")


@pytest.fixture(scope="module")
def tiny() -> Any:
    """A board of one server and one client, which are always here."""
    options = ("--runs", "2", "--client-runs", "1", "--date", "2026-01-01")
    return json.loads(run(*options, "--only", "bowout serve", "--only", "http.client").stdout)


class PageReader(HTMLParser):
    """What a page has in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            kept = {"href": self.links, "src": self.images, "id": self.ids}.get(name)
            if kept is not None:
                kept.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


# -- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_has_each_cell_of_its_rows(tiny: Any) -> None:
    for kind, name in (("servers", "bowout serve"), ("clients", "http.client")):
        (row,) = tiny[kind]
        assert (row["name"], row["missing"]) == (name, None)
        assert row["version"]
        assert row["configuration"]
        assert row["cells"].keys() == {column["name"] for column in tiny["columns"][kind]}


def test_a_run_counts_the_runs_of_each_verdict(tiny: Any) -> None:
    cells = tiny["servers"][0]["cells"]
    assert cells["half-close"]["of"] == 6, "three in each check"
    for cell in cells.values():
        assert cell["runs"] == cell["seen"][cell["verdict"]]
        assert cell["of"] == sum(cell["seen"].values())


def test_a_client_that_hides_a_cut_fails_and_has_its_ladder(tiny: Any) -> None:
    cell = tiny["clients"][0]["cells"]["to the end, FIN"]
    assert (cell["verdict"], cell["says"]) == ("FAIL", "its user has half of the answer, and no error")
    assert Ending.from_dict(cell["ending"]).inbound.value == "truncated at a record boundary"


def test_a_client_that_reports_a_cut_is_well(tiny: Any) -> None:
    cell = tiny["clients"][0]["cells"]["by length, FIN"]
    assert (cell["verdict"], cell["says"]) == ("OK", "its user sees http.IncompleteRead")


def test_one_cell_is_made_again_by_its_command(tiny: Any) -> None:
    cell = tiny["clients"][0]["cells"]["to the end, FIN"]
    assert cell["command"] == "python scripts/scoreboard.py --show http.client 'to the end, FIN'"
    shown = run("--runs", "1", "--show", "http.client", "to the end, FIN").stdout
    assert shown.startswith("http.client, to the end, FIN: FAIL 1 of 1\n")
    assert "FIN" in shown.partition("\n")[2]


# -- its page ---------------------------------------------------------------------------------------------------------


def test_the_page_prints_configurations_verdicts_runs_and_commands(pages: ModuleType, tiny: Any) -> None:
    page = PageReader(pages.board_page(tiny))
    for row in (*tiny["servers"], *tiny["clients"]):
        assert row["configuration"] in page.text
        for cell in row["cells"].values():
            assert cell["command"] in page.text
            assert f"{cell['runs']} of {cell['of']}" in page.text


def test_the_page_requests_nothing(pages: ModuleType, tiny: Any) -> None:
    text = pages.board_page(tiny)
    page = PageReader(text)
    assert page.images
    assert all(image.startswith("data:image/svg+xml;base64,") for image in page.images)
    assert all(link.startswith("#") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"url\(|@import", text)


def test_each_link_of_the_page_leads_somewhere(pages: ModuleType, tiny: Any) -> None:
    page = PageReader(pages.board_page(tiny))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_is_light_and_dark(pages: ModuleType, tiny: Any) -> None:
    text = pages.board_page(tiny)
    assert "color-scheme: light dark" in text
    assert "prefers-color-scheme: dark" in text


def test_a_ladder_is_a_picture(pages: ModuleType, tiny: Any) -> None:
    image = PageReader(pages.board_page(tiny)).images[0]
    assert base64.b64decode(image.partition(",")[2]).startswith(b"<svg")


def test_the_page_escapes_what_a_peer_says(pages: ModuleType, tiny: Any) -> None:
    hostile = copy.deepcopy(tiny)
    for row in (*hostile["servers"], *hostile["clients"]):
        row["version"] = row["configuration"] = HOSTILE
        for cell in row["cells"].values():
            cell["says"] = HOSTILE
    for text in (pages.board_page(hostile), pages.diff_page(tiny, hostile)):
        assert "<script" not in text
        assert HOSTILE in PageReader(text).text


def test_a_program_that_is_not_here_has_a_row_without_cells(pages: ModuleType, tiny: Any) -> None:
    without = copy.deepcopy(tiny)
    without["servers"][0].update(version=None, missing="it is not installed", cells={})
    page = PageReader(pages.board_page(without))
    assert "it is not installed" in page.text
    assert "not here" in page.text


# -- the difference of two --------------------------------------------------------------------------------------------


def test_equal_boards_do_not_differ(pages: ModuleType, tiny: Any) -> None:
    assert pages.diff_page(tiny, tiny).count("Nothing changed.") == 2


def test_another_verdict_version_and_row_is_a_difference(pages: ModuleType, tiny: Any) -> None:
    after = copy.deepcopy(tiny)
    after["servers"][0]["version"] = "9.9"
    after["servers"][0]["cells"]["answers"].update(verdict="WARN", seen={"OK": 1, "WARN": 1}, runs=1, says="bare FIN")
    after["clients"][0]["name"] = "another.client"
    changes = [
        (one["name"], one["what"], one["after"]["text"]) for one in pages.differences(tiny["servers"], after["servers"])
    ]
    assert changes == [("bowout serve", "version", "9.9"), ("bowout serve", "answers", "OK 1 of 2, WARN 1 of 2")]
    rows = [(one["name"], one["after"]["text"]) for one in pages.differences(tiny["clients"], after["clients"])]
    assert rows == [("http.client", "absent"), ("another.client", after["clients"][0]["version"])]


def test_the_number_of_runs_is_no_difference(pages: ModuleType, tiny: Any) -> None:
    after = copy.deepcopy(tiny)
    after["servers"][0]["cells"]["answers"].update(seen={"OK": 30}, runs=30, of=30)
    assert list(pages.differences(tiny["servers"], after["servers"])) == []


def test_the_command_compares_two_files_and_writes_a_page_again(tmp_path: Path, tiny: Any) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(tiny))
    after.write_text(json.dumps({**tiny, "date": "2026-02-02", "clients": []}))
    assert "From 2026-01-01 to 2026-02-02" in run("--diff", str(before), str(after)).stdout
    run("--page", str(before), "--out", str(tmp_path))
    assert "2026-01-01" in (tmp_path / "index.html").read_text()


NO_SUCH_COLUMN: Final = {
    "version": 1,
    "columns": {"servers": [{"name": "a"}], "clients": []},
    "servers": [{"name": "b", "version": "1", "configuration": "", "missing": None, "cells": {"c": {}}}],
}


# -- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', json.dumps(NO_SUCH_COLUMN)],
)
def test_a_file_that_is_no_board_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "board.json"
    file.write_text(text)
    done = run("--page", str(file), "--out", str(tmp_path), status=2)
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "No such file" in run("--diff", str(tmp_path / "a"), str(tmp_path / "b"), status=2).stderr


@pytest.mark.parametrize("arguments", [("--only", "nobody"), ("--show", "nobody", "answers"), ("--show", "curl", "x")])
def test_an_unknown_name_is_an_error(arguments: tuple[str, ...]) -> None:
    assert "is none of: " in run(*arguments, status=2).stderr


# -- the committed board ----------------------------------------------------------------------------------------------


def test_the_committed_page_is_that_of_the_latest_board(pages: ModuleType) -> None:
    page = (ROOT / "scoreboard" / "index.html").read_text(encoding="utf-8")
    assert page == pages.board_page(pages.load(BOARDS[-1])), (
        "run: python scripts/scoreboard.py --page scoreboard/DATE.json"
    )
