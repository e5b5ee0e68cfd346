"""The pages for learners do what they say, word for word, on asyncio and on trio."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from helpers.compiled import boost_program, shared_directory
from helpers.documents import DOCS, player, snippets
from helpers.peers import ROOT, require_module, require_program
from helpers.scripts import load_script

#: The pages of the tutorial build on one another.
TUTORIAL: Final = tuple(sorted(f"tutorial/{path.name}" for path in (DOCS / "tutorial").glob("[1-9]*.md")))
#: Every other page whose snippets are whole programs, with the modules that it takes.
PAGES: Final[dict[str, tuple[str, ...]]] = {
    "explanation/boost-asio.md": (),
    "explanation/truncation.md": (),
    "explanation/versions.md": (),
    "how-to/bad-endings.md": (),
    "how-to/half-close.md": (),
    "how-to/leaving.md": (),
    "how-to/libraries.md": ("aiohttp", "httpx", "requests", "uvicorn", "websockets"),
    "how-to/proxy.md": (),
    "how-to/resume.md": (),
    "how-to/sigterm.md": (),
    "how-to/starttls.md": ("aiosmtpd",),
    "how-to/who-ended.md": (),
}
#: Pages whose console starts a program of .ci/packages.txt.
PROGRAMS: Final = {"how-to/proxy.md": "haproxy"}
#: Pages with programs on Boost.Asio, which are compiled once for all tests: a reader types the compiler's command.
BOOST: Final = {"explanation/boost-asio.md": ("situation_1", "situation_2")}
#: Programs of libraries that run on asyncio only.
OF_ASYNCIO: Final = {"with_aiohttp.py", "with_asyncio.py", "with_uvicorn.py", "with_websockets.py"}
PLAYS: Final = {"tutorial": TUTORIAL} | {page: (page,) for page in PAGES}


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("name", PLAYS)
def test_a_page_does_what_it_says(
    name: str, loop: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for module in PAGES.get(name, ()):
        require_module(module)
    if name in PROGRAMS:
        require_program(PROGRAMS[name])
    compiled = {
        program: boost_program(ROOT / "examples" / "boost" / f"{program}.cpp", shared_directory(tmp_path_factory))
        for program in BOOST.get(name, ())
    }
    with player(tmp_path, loop) as reader:
        for program, path in compiled.items():
            reader.own(program, path)
        for snippet in snippets(*PLAYS[name]):
            reader.play(snippet)
        reader.end()


@pytest.mark.parametrize("name", PLAYS)
def test_each_program_of_a_page_is_run(name: str) -> None:
    found = snippets(*PLAYS[name])
    texts = "\n".join(snippet.text for snippet in found)
    programs = {snippet.title for snippet in found if snippet.language == "python" and snippet.title}
    assert programs
    used = set(re.findall(r"(?:python |pytest .*?)(\w+\.py)$", texts, re.MULTILINE))
    used |= {f"{name}.py" for name in re.findall(r"^(?:import|from) (\w+)", texts, re.MULTILINE)}
    assert programs - used == set()


@pytest.mark.parametrize("name", PLAYS)
def test_each_program_can_be_run_on_trio(name: str) -> None:
    """Either its only word of asyncio is the one that runs it, or there is one like it for trio."""
    found = [snippet for snippet in snippets(*PLAYS[name]) if snippet.language == "python" and snippet.title]
    programs = {snippet.title: snippet.text for snippet in found}
    other = {title for title, text in programs.items() if text.count("asyncio.") > 1 and title not in OF_ASYNCIO}
    assert {title for title in other if title.replace(".py", "_trio.py") not in programs} == set()


def test_each_picture_is_shown() -> None:
    pictures = {path.name for path in (DOCS / "pictures").iterdir()}
    texts = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")]
    shown = set(re.findall(r"[(\"](?:\.\./)?pictures/([\w.-]+\.svg)", "\n".join(texts)))
    assert shown == pictures


def test_the_ladders_are_what_a_run_draws() -> None:
    script = load_script(ROOT / "scripts" / "generate_pictures.py")
    drawn = {name: texts_of(script.ADDRESS.sub(script.NAME, text)) for name, text in script.pictures()}
    kept = {name: texts_of((DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8")) for name in drawn}
    assert drawn == kept


def texts_of(picture: str) -> set[str]:
    """All texts of a ladder but times, ciphers, and rows that come or go: the tickets and FIN of the peer."""
    texts = [re.sub(r"<[^>]*>", "", text) for text in re.findall(r"<text\b.*?</text>", picture, re.DOTALL)]
    kept = {re.sub(r"[\d.]+ m?s\b|(?<=TLSv1.\d )[A-Z]\S+", "", text) for text in texts}
    return {text for text in kept if text != "FIN" and not text.startswith("session ticket")}
