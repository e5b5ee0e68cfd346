"""The recording of ``bowout demo`` in docs/pictures: it shows what the demo prints now, and moves as it should."""

from __future__ import annotations

import itertools
import re
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

from helpers.peers import ROOT, require_module, require_program
from helpers.scripts import load_script

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

record_demo = load_script(ROOT / "scripts" / "record_demo.py")
SVG: Final = "{http://www.w3.org/2000/svg}"
#: What differs from run to run: times, and rows of a ladder that come or go on a busy machine.
TIME: Final = re.compile(r"[\d.]+(?:µs|ms|s)\b")
PASSING: Final = re.compile(r"later|more…|sessionticket")
#: The lines of a ladder, and what its arrows are drawn with.
LIFELINES: Final = ("│", "├", "┊")
DRAWN: Final = re.compile(r"^T|[─━│├┤┊◄►▷✗·]")


def lines_of_picture(document: str) -> list[str]:
    """The lines of a picture, without the spaces between its stretches."""
    lines: dict[float, list[str]] = defaultdict(list)
    for text in ET.fromstring(document).iter(f"{SVG}text"):
        lines[float(text.get("y", ""))].append(text.text or "")
    return ["".join("".join(lines[y]).split()) for y in sorted(lines)]


def lines_of_demo(output: str) -> list[str]:
    """The lines that a picture of this output has."""
    prompt = f"$ {' '.join(record_demo.COMMAND)}"
    texts = [prompt, *(record_demo.words(line) for line in record_demo.lines_of(output))]
    return ["".join(text.split()) for text in texts if text.strip()]


def lasting(lines: list[str]) -> list[str]:
    """Lines that are the same in each run: of a ladder, only its labels, whatever their order."""
    told: list[str] = []
    labels: set[str] = set()
    for line in lines:
        bare = TIME.sub("T", line)
        if any(char in bare for char in LIFELINES):
            labels.add(DRAWN.sub("", bare))
        else:
            told += [*sorted(label for label in labels if label and not PASSING.search(label)), bare]
            labels.clear()
    return told


@pytest.fixture(scope="module")
def picture() -> str:
    return str(record_demo.PICTURE.read_text(encoding="utf-8"))


def test_it_shows_what_the_demo_prints_now(picture: str) -> None:
    assert lasting(lines_of_picture(picture)) == lasting(lines_of_demo(record_demo.record())), "run `make pictures`"


def test_a_line_that_differs_is_found() -> None:
    quiet = ["we", "0.2ms├───FIN──►│", "0.3ms│◄──FIN───┤", "4.0ms│•abort()│", "clean·4.0ms"]
    busy = ["we", "│◄──sessionticket──┤", "11.2ms├───FIN──►│", "┊1.5slater┊", "5.012s│•abort()│", "clean·5.012s"]
    assert lasting(quiet) == lasting(busy) == ["we", "FIN", "•abort()", "clean·T"]
    assert lasting([line.replace("FIN", "RST") for line in busy]) != lasting(quiet)
    assert lasting([line.replace("clean", "reset") for line in busy]) != lasting(quiet)


def test_a_picture_has_every_line_of_its_recording() -> None:
    output = "one\r\n\r\n  \x1b[1;32m✓ two\x1b[0m  three at 127.0.0.1:54321\r\n"
    document = record_demo.draw(record_demo.lines_of(output))
    assert lines_of_picture(document) == ["$bowoutdemo", "one", "✓twothreeat127.0.0.1:44330"]
    assert record_demo.draw(record_demo.lines_of(output.replace("54321", "43210"))) == document
    green = [text.text for text in ET.fromstring(document).iter(f"{SVG}text") if text.get("class") == "b green"]
    assert green == ["✓ two"]


def test_text_stays_text() -> None:
    hostile = '</text><script>alert(1)</script>&amp;"'
    document = record_demo.draw(record_demo.lines_of(f"{hostile}\r\n── 1 · {hostile} ──\r\n"))
    root = ET.fromstring(document)
    assert {element.tag for element in root.iter()} == {
        f"{SVG}{name}" for name in ("svg", "title", "desc", "style", "g", "rect", "text")
    }
    assert "".join(hostile.split()) in lines_of_picture(document)


@pytest.mark.parametrize("output", ["\x1b[2Jgone", "back\rward", "\x1b[35mmagenta\x1b[0m", "a\tb"])
def test_output_that_a_picture_cannot_show_is_an_error(output: str) -> None:
    with pytest.raises(ValueError, match=r"does more than|has no look"):
        record_demo.lines_of(output)


def test_it_is_small_and_needs_nothing(picture: str) -> None:
    assert len(picture.encode()) < 150_000
    assert not re.search(r"<script|href|url\(|@import|http(?!://www\.w3\.org/2000/svg)", picture)
    root = ET.fromstring(picture)
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert "✓ A read's reaction may close: the server got our close_notify and met no error.;" in (root[1].text or "")
    assert root.get("role") == "img"


# -- in the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if sys.platform != "linux":
        pytest.skip("the picture is looked at on Linux only")
    require_module("playwright", "the dependency group `test`")
    program = require_program("chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (it may be missing)

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


#: The lines that can be seen: in the window, and above the curtain.
SEEN: Final = """() => {
    const curtain = document.querySelector(".curtain").getBoundingClientRect().top
    const frame = document.querySelector(".frame").getBoundingClientRect()
    return [...document.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect(), middle = (box.top + box.bottom) / 2
        return middle > frame.top && middle < Math.min(curtain, frame.bottom)
    }).map(text => text.textContent)
}"""


@pytest.fixture
def opened(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = chromium.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    page.goto(record_demo.PICTURE.as_uri())
    yield page
    context.close()


def test_it_begins_with_the_command_and_ends_with_the_result(opened: Page) -> None:
    """The animations are set to each moment: nothing here waits for time to pass."""

    def seen(at: float) -> list[str]:
        opened.evaluate(f"document.getAnimations().forEach(each => {{each.pause(); each.currentTime = {at}}})")
        return [str(text) for text in opened.evaluate(SEEN)]

    durations = opened.evaluate("document.getAnimations().map(each => each.effect.getTiming().duration)")
    assert len(set(durations)) == 1
    assert len(durations) == 2
    (duration, _) = durations
    assert seen(0) == ["$", "bowout demo"]
    moments = [seen(at) for at in range(0, int(duration), 250)]
    rests = [texts for texts, later in itertools.pairwise(moments) if texts == later and len(texts) > 2]
    # In a rest one act can be seen as a whole, from its heading to the end of its table.
    headings = [[text[:4] for text in texts if text.startswith("── ")] for texts in rests]
    assert [heading for heading, _ in itertools.groupby(headings)] == [["── 1"], ["── 2"], ["── 3"], ["── 4"]]
    assert all("then" in texts[-6:] for texts in rests)
    last = seen(duration - 1)
    assert last[-1] == "All four ended as promised."
    assert any(text.startswith("── 4 ·") for text in last)
    assert seen(duration - 5900) == last
    assert seen(duration) == ["$", "bowout demo"]  # from the start again


@pytest.mark.parametrize("opened", [{"reduced_motion": "reduce"}], indirect=True)
def test_with_reduced_motion_it_shows_the_result_and_stays(opened: Page) -> None:
    assert opened.evaluate("document.getAnimations().length") == 0
    assert opened.evaluate(SEEN)[-1] == "All four ended as promised."


@pytest.mark.parametrize("opened", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_it_has_the_scheme_of_its_reader(opened: Page) -> None:
    def luminance(colour: str) -> int:
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    fill = "selector => getComputedStyle(document.querySelector(selector)).fill"
    ground = luminance(opened.evaluate(f"({fill})('.curtain')"))
    plain = luminance(opened.evaluate(f"({fill})('text:not([class])')"))
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (ground < 100 and plain > 600) if dark else (ground > 700 and plain < 150)
