"""The words and links of the texts: one spelling for each term; every link, name and option is there."""

from __future__ import annotations

import importlib
import re
import runpy
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import httpx
import pytest
from typer.core import TyperGroup
from typer.main import get_command

from bowout.cli.app import app
from helpers.documents import DOCS, anchors, links, prose, terms
from helpers.peers import ROOT
from helpers.runners import Runner

FOLDERS: Final = (".github", "bench", "changelog.d", "docs", "examples", "scripts", "tests")
FILES: Final = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
API: Final = DOCS / "reference" / "api"
#: Other spellings of a term, and the one of this project. Code may have its own.
TERMS: Final = {
    r"close[- ]notif\w*|CloseNotify|closenotify": "close_notify",
    r"half[ _]clos\w*|halfclos\w*": "half-close",
    r"TLS v\d|TLS1\.\d|TLS-1\.\d|TLSv\d(?!\.\d [A-Z]+[_-])": "TLS 1.3",
    r"SSL/TLS|TLS/SSL": "TLS",
    r"Start-?TLS|start-tls|(?<!-)starttls": "STARTTLS",
    r"Open SSL|Openssl": "OpenSSL",
    r"time-out|time out(?= of)": "timeout",
    r"eventloop|event-loop": "event loop",
    r"Asyncio|AsyncIO|Trio|AnyIO|Anyio|UVLoop|Uvloop": "asyncio, trio, anyio, uvloop",
    r"Bowout|BowOut": "bowout",
    r"back-log": "backlog",
    r"behavior|color|canceled|canceling|honor": "behaviour, colour, cancelled, honour",
}
#: Names: an alert of TLS, a version as `ssl` has it, an error of OpenSSL, and an entry of the reference.
NAMES: Final = re.compile(r"::: bowout[\w.]*|user_canceled|such as TLSv1\.\d|application data after close notify")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_terms_have_one_spelling(path: Path) -> None:
    text = NAMES.sub("", prose(path))
    found = {(wrong, right) for pattern, right in TERMS.items() for wrong in re.findall(rf"\b(?:{pattern})", text)}
    assert not found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_links_lead_to_something(path: Path) -> None:
    """Those of docs/ that lead to pages are checked by `make docs`, too, with the anchors of the site."""
    lost = [link for link in links(path) if not re.match("[a-z]+:", link) and not leads(path, link)]
    assert lost == []


def leads(path: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (path.parent / file).resolve() if file else path
    if target.is_relative_to(ROOT / "src") and not (ROOT / "src").exists():  # tests of a wheel
        return True
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    if target.is_relative_to(API) and anchor:  # made of docstrings, when the site is built
        return anchor.startswith(target.stem.removesuffix(".errors"))  # those are bowout.Truncated, …
    return not anchor or target.suffix != ".md" or anchor in known(target)


known: Final = cache(anchors)


PAGES: Final = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Loggers, and classes that bowout.asyncio makes of two errors when it needs them.
NO_NAMES: Final = re.compile(r"bowout\.(server|Connection(Truncated|AlertReceived))")
#: Options of other programs: every program's help, timeout, docker.
OTHER_OPTIONS: Final = frozenset({"--help", "--foreground", "--time"})


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_names_of_bowout_exist(path: Path) -> None:
    names = {name for term in terms(path) for name in re.findall(r"(?<![\w./-])bowout(?:\.\w+)+", term)}
    assert [name for name in sorted(names) if not NO_NAMES.fullmatch(name) and not exists(name)] == []


def exists(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        with suppress(ModuleNotFoundError):
            found: object = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                found = getattr(found, part, None)
            return found is not None
    return False


@pytest.mark.parametrize("path", [path for path in PAGES if "evidence" not in path.parts], ids=name_of)
def test_options_exist(path: Path) -> None:
    """Not those of the pages of evidence, which are of many programs."""
    options = {option for term in terms(path) for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", term)}
    assert options - OTHER_OPTIONS <= known_options()


@cache
def known_options() -> frozenset[str]:
    options: set[str] = set()
    commands = [get_command(app)]
    for command in commands:
        options.update(option for parameter in command.params for option in parameter.opts + parameter.secondary_opts)
        commands += command.commands.values() if isinstance(command, TyperGroup) else ()
    return frozenset(options)


def test_a_lost_link_is_found(tmp_path: Path) -> None:
    text = '# One two\n\n[a](#one-two) [b](#one) [c](no.md)\n\n<img src="no.svg">\n\n`[d](no)`\n\n![e](no.png "E")\n'
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    assert links(path) == ["#one-two", "#one", "no.md", "no.svg", "no.png"]
    assert anchors(path) == {"one-two"}
    assert prose(path).split() == ["One", "two", "a", "b", "c", "e"]


@pytest.mark.backends("asyncio")
@pytest.mark.parametrize(
    ("statuses", "wrong"),
    [([200], None), ([404], "status 404"), ([403], None), ([503, 503, 200], None), ([503, 503, 503], "status 503")],
    ids=str,
)
def test_asking_for_an_address(run: Runner, statuses: list[int], wrong: str | None) -> None:
    fault = runpy.run_path(str(ROOT / "scripts" / "check_links.py"))["fault"]
    answers = iter(statuses)

    async def main() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(next(answers)))
        async with httpx.AsyncClient(transport=transport) as client:
            assert await fault(client, "https://example.org/", pause=0) == wrong
        assert list(answers) == []

    run(main)
