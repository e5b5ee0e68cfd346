"""The pages for learners do what they say, word for word, on asyncio and on trio."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from helpers.documents import DOCS, player, snippets
from helpers.peers import require_module

#: The pages of the tutorial build on one another.
TUTORIAL: Final = tuple(sorted(f"tutorial/{path.name}" for path in (DOCS / "tutorial").glob("[1-9]*.md")))
#: Every other page whose snippets are whole programs, with the modules that it takes.
PAGES: Final[dict[str, tuple[str, ...]]] = {}
PLAYS: Final = {"tutorial": TUTORIAL} | {page: (page,) for page in PAGES}


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("name", PLAYS)
def test_a_page_does_what_it_says(name: str, loop: str, tmp_path: Path) -> None:
    for module in PAGES.get(name, ()):
        require_module(module)
    with player(tmp_path, loop) as reader:
        for snippet in snippets(*PLAYS[name]):
            reader.play(snippet)
        reader.end()


@pytest.mark.parametrize("name", PLAYS)
def test_each_program_of_a_page_is_run(name: str) -> None:
    found = snippets(*PLAYS[name])
    typed = "\n".join(snippet.text for snippet in found if snippet.language == "console")
    programs = {snippet.title for snippet in found if snippet.language == "python"}
    assert programs
    assert {program for program in programs if not re.search(rf"(?<!\w){re.escape(program)}", typed)} == set()


@pytest.mark.parametrize("name", PLAYS)
def test_each_program_can_be_run_on_trio(name: str) -> None:
    """Either its only word of asyncio is the one that runs it, or there is one like it for trio."""
    programs = {snippet.title: snippet.text for snippet in snippets(*PLAYS[name]) if snippet.language == "python"}
    other = {title for title, text in programs.items() if text.count("asyncio.") > 1}
    assert {title for title in other if title.replace(".py", "_trio.py") not in programs} == set()
