"""The page of reports, in a real browser: sorted, filtered, linked, dark, narrow, silent, and by keyboard alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from bowout.check import Verdict
from bowout.check.html import page
from bowout.ending import Ending, Event, EventKind, How, Inbound, Outbound, Side
from helpers.commands import bowout, ca_file
from helpers.peers import require_module, require_program
from helpers.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROBES: Final = ("reply-end", "answers", "half-close", "tcp-after", "bare-fin", "refusal")
#: What must not leave its place: markup, ends of elements, attributes and scripts, controls, and half a character.
HOSTILE: Final = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[2J\x00\u202e\u2028",
    "\ud800",
    "]]></desc></svg><script>alert(1)</script>",
)


def an_ending(peer: str = "example.org:443", detail: str = "192.0.2.1:443") -> dict[str, Any]:
    return Ending(
        how=How.TRUNCATED, started_by=Side.PEER, outbound=Outbound.FIN_SENT, peer=peer, tls_version="TLSv1.3",
        inbound=Inbound.TRUNCATED_AT_BOUNDARY, duration=0.4,
        events=(Event(EventKind.CONNECTED, Side.WE, 0.0, detail), Event(EventKind.FIN, Side.PEER, 0.1)),
    ).to_dict()  # fmt: skip


def a_report(endpoint: str, verdict: str, **more: Any) -> dict[str, Any]:
    findings = [
        {"probe": probe, "verdict": verdict if probe == "half-close" else "OK", "says": f"{probe} of {endpoint}",
         "rule": "RFC 8446 §6.1", "runs": 3, "lost": 3 if verdict == "DATA-LOSS" and probe == "half-close" else 0,
         "seconds": 0.1, "facts": {"bytes": 3, "complete": False}, "ending": an_ending()}
        for probe in PROBES
    ]  # fmt: skip
    return {
        "version": 1, "tool": "bowout", "endpoint": endpoint, "address": "192.0.2.1:443", "starttls": None,
        "protocol": "http", "tls": "TLSv1.3", "began": 1.0, "seconds": 2.0, "connections": 8, "verdict": verdict,
        "worst": "half-close", "findings": findings, **more,
    }  # fmt: skip


REPORTS: Final = (
    a_report("nginx.example:443", "WARN"),
    a_report("uvicorn.example:443", "DATA-LOSS"),
    a_report("caddy.example:443", "OK"),
    a_report("mail.example:25", "FAIL", starttls="smtp"),
)


class Elements(HTMLParser):
    """The elements and attributes of a document, and the text of each of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self._script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data


# -- the document ------------------------------------------------------------------------------------------------------


def hostile_report(text: str) -> dict[str, Any]:
    report = a_report(text, text, address=text, starttls=text, protocol=text, tls=text, worst=text)
    for finding in report["findings"]:
        finding |= {"probe": text, "says": text, "rule": text, "verdict": text, "facts": {text: [text]}}
        finding["ending"] = an_ending(text, text)
    return report


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_leaves_its_place(text: str) -> None:
    plain = page([hostile_report("x" * 5)], title="x")
    document = page([hostile_report(text)], title=text)
    document.encode()
    ours, theirs = Elements(plain), Elements(document)
    assert theirs.tags == ours.tags
    assert [name for name, _ in theirs.attributes] == [name for name, _ in ours.attributes]
    assert json.loads(theirs.scripts[0]) == [hostile_report(text)]
    assert theirs.scripts[1] == ours.scripts[1]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]", document)
    links = [value for name, value in theirs.attributes if name in ("href", "src")]
    assert all(str(link).startswith(("#", "data:image/svg+xml;base64,")) for link in links)


def test_permalinks_are_stable_and_never_the_same_twice() -> None:
    twice = [*REPORTS, REPORTS[0], a_report("nginx.example:443-2", "OK"), a_report("nginx example:443", "OK")]
    names = [value for name, value in Elements(page(twice)).attributes if name == "id"]
    assert len(names) == len(set(names))
    assert "nginx.example:443.half-close" in names
    assert "mail.example:25.smtp.half-close" in names
    alone = [value for name, value in Elements(page(REPORTS[:1])).attributes if name == "id"]
    assert "nginx.example:443.half-close" in alone


def test_a_large_page_draws_what_is_bad() -> None:
    many = [a_report(f"{number}.example:443", "OK") for number in range(30)]
    assert page(many).count("<img") == 0
    assert page([*many, REPORTS[0]]).count("<img") == 1
    assert page(many[:2]).count("<img") == 2 * len(PROBES)


def test_a_very_large_page_has_an_end() -> None:
    many = [a_report(f"{number}.example:443", "FAIL") for number in range(400)]
    document = page(many)
    assert document.count("<img") == 300
    embedded = json.loads(Elements(document).scripts[0])
    assert sum(finding["ending"] is not None for report in embedded for finding in report["findings"]) == 300


def test_an_endpoint_cannot_take_the_name_of_an_element() -> None:
    for name in ("table", "data", "q", "count", "save", "h.1"):
        names = [value for each, value in Elements(page([a_report(name, "OK")])).attributes if each == "id"]
        assert len(names) == len(set(names)), name


def test_a_page_without_reports_and_one_with_an_ending_of_the_future() -> None:
    assert "0 endpoints" in page([])
    report = a_report("a.example:443", "OK")
    report["findings"][0]["ending"] = {"version": 99}
    assert page([report]).count("<img") == len(PROBES) - 1


def test_every_verdict_has_its_colour() -> None:
    rules = page([])
    assert all(f".v-{verdict.rank} " in rules for verdict in Verdict)


def test_the_check_of_a_real_server_makes_one(tmp_path: Path) -> None:
    with serving("--www", str(tmp_path)) as server:
        done = bowout("check", server.address, "--cafile", ca_file(), "--format", "html")
        server.stop()
    document = Elements(done.out.decode())
    assert done.status == 0, done.err
    (report,) = json.loads(document.scripts[0])
    assert report["verdict"] == "OK"
    assert document.tags.count("img") == sum(finding["ending"] is not None for finding in report["findings"]) > 0


# -- in the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if sys.platform != "linux":
        pytest.skip("the page is read on Linux only")
    require_module("playwright", "the dependency group `test`")
    chromium = require_program("chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (it may be missing)

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


Open = Callable[..., "Page"]


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a page of reports; any request, error or message of the browser fails the test."""
    trouble: list[str] = []
    contexts = []

    def open_page(*reports: dict[str, Any], address: str = "", **options: Any) -> Page:
        path = tmp_path / "report.html"
        path.write_text(page(reports or REPORTS), encoding="utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        opened = context.new_page()
        opened.on("pageerror", lambda error: trouble.append(str(error)))
        opened.on("console", lambda message: trouble.append(message.text))
        opened.on("dialog", lambda dialog: trouble.append(dialog.message))
        opened.on("request", lambda request: trouble.append(request.url) if not allowed(request.url, path) else None)
        opened.goto(path.as_uri() + address)
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def allowed(url: str, path: Path) -> bool:
    return url.startswith((path.as_uri(), "data:image/svg+xml;base64,"))


def column(opened: Page, number: int) -> list[str]:
    cells = opened.locator(f"tbody tr:visible > :nth-child({number})").all_inner_texts()
    return [cell.strip() for cell in cells]


def test_it_sorts_by_a_click_and_says_so(shown: Open) -> None:
    opened = shown()
    heads = opened.locator("thead th")
    heads.nth(1).get_by_role("button").click()
    assert column(opened, 2) == ["DATA-LOSS", "FAIL", "WARN", "OK"]
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    heads.nth(1).get_by_role("button").click()
    assert column(opened, 2) == ["OK", "WARN", "FAIL", "DATA-LOSS"]
    heads.nth(0).get_by_role("button").click()
    assert column(opened, 1) == [
        "caddy.example:443",
        "mail.example:25 smtp",
        "nginx.example:443",
        "uvicorn.example:443",
    ]
    assert [each.get_attribute("aria-sort") for each in heads.all()[:2]] == ["ascending", "none"]


def test_it_filters_and_keeps_the_filter_in_its_address(shown: Open) -> None:
    opened = shown()
    opened.fill("#q", "example fail")
    assert column(opened, 1) == ["mail.example:25 smtp"]
    assert opened.locator("section:visible").count() == 1
    assert opened.inner_text("#count") == "1 of 4"
    assert opened.url.endswith("?q=example+fail")
    opened.reload()
    assert column(opened, 1) == ["mail.example:25 smtp"]
    opened.press("#q", "Escape")
    assert len(column(opened, 1)) == 4
    assert "?" not in opened.url


def test_a_filter_of_markup_is_only_text(shown: Open) -> None:
    opened = shown(address="?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    assert column(opened, 1) == []
    assert opened.input_value("#q") == "<img src=x onerror=alert(1)>"


def test_a_permalink_opens_its_finding_even_if_it_is_filtered_out(shown: Open) -> None:
    opened = shown(address="?q=nginx#uvicorn.example:443.half-close")
    finding = opened.locator("article:target")
    assert finding.locator("h3").inner_text().startswith("half-close")
    picture = finding.locator("img")
    picture.wait_for(state="visible")
    opened.wait_for_function("document.querySelector('article:target img').naturalWidth > 0")
    assert picture.evaluate("image => image.naturalWidth") == 720
    assert "truncated" in (picture.get_attribute("alt") or "")


def test_a_cell_leads_to_its_finding(shown: Open) -> None:
    opened = shown()
    opened.locator("td a", has_text="DATA-LOSS").click()
    assert opened.url.endswith("#uvicorn.example:443.half-close")
    assert opened.locator("article:target details[open]").count() == 1


def test_it_is_dark_where_its_reader_is(shown: Open) -> None:
    looks = {}
    for scheme in ("light", "dark"):
        opened = shown(color_scheme=scheme)
        style = "element => [getComputedStyle(element).backgroundColor, getComputedStyle(element).color]"
        looks[scheme] = opened.locator("body").evaluate(style)
    light, dark = ([luminance(colour) for colour in looks[scheme]] for scheme in ("light", "dark"))
    assert light[0] > 0.9
    assert light[1] < 0.1
    assert dark[0] < 0.1
    assert dark[1] > 0.5


def test_every_colour_of_a_verdict_can_be_read(shown: Open) -> None:
    """WCAG 2.1 asks for a contrast of 4.5."""
    verdicts = [a_report(f"{verdict.rank}.example:443", str(verdict)) for verdict in Verdict]
    for scheme in ("light", "dark"):
        opened = shown(*verdicts, color_scheme=scheme)
        ground = opened.locator("body").evaluate("element => getComputedStyle(element).backgroundColor")
        for cell in opened.locator("tbody td:nth-child(2)").all():
            colour = cell.evaluate("element => getComputedStyle(element).color")
            assert contrast(colour, ground) >= 4.5, (scheme, cell.inner_text())


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_fits_400_pixels(shown: Open) -> None:
    long = a_report("a-very-long-name-of-a-host." * 5 + "example.org:8443", "FAIL")
    opened = shown(*REPORTS, long, viewport={"width": 400, "height": 800}, address="#nginx.example:443.half-close")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    wrap = opened.locator(".wrap")
    assert wrap.evaluate("element => element.scrollWidth > element.clientWidth")  # The table scrolls in its own place.
    wrap.evaluate("element => element.scrollLeft = 300")
    assert opened.locator("tbody th").first.evaluate("element => element.getBoundingClientRect().left") >= 0


def test_the_head_stays_in_sight(shown: Open) -> None:
    many = [a_report(f"{number}.example:443", "OK") for number in range(100)]
    opened = shown(*many, viewport={"width": 1000, "height": 600})
    top = "element => element.getBoundingClientRect().top"
    opened.locator(".wrap").evaluate("element => element.scrollTop = 1500")
    head, wrap = opened.locator("thead th").first.evaluate(top), opened.locator(".wrap").evaluate(top)
    assert abs(head - wrap) < 3
    assert opened.locator("tbody tr").first.evaluate(top) < wrap


def test_a_keyboard_is_enough(shown: Open) -> None:
    opened = shown()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the table"
    opened.keyboard.press("Tab")
    opened.keyboard.type("nginx")
    assert column(opened, 1) == ["nginx.example:443"]
    opened.keyboard.press("Escape")
    for _ in range(4):  # "Save as JSON", the table's own scrolling, two heads
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert column(opened, 2) == ["DATA-LOSS", "FAIL", "WARN", "OK"]
    for _ in range(len(PROBES) + 3):  # the other heads; the row of the worst, with its name first
        opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "OK"
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert opened.url.endswith("#uvicorn.example:443.half-close")


def test_its_reports_can_be_saved(shown: Open, tmp_path: Path) -> None:
    opened = shown()
    with opened.expect_download() as saving:
        opened.get_by_role("button", name="Save as JSON").click()
    saving.value.save_as(tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text(encoding="utf-8")) == list(REPORTS)


def test_without_scripts_all_of_it_can_be_read(shown: Open) -> None:
    opened = shown(java_script_enabled=False)
    assert column(opened, 2) == ["WARN", "DATA-LOSS", "OK", "FAIL"]
    assert opened.locator("section").count() == 4
    assert opened.locator("#q").is_hidden()


def test_hostile_reports_do_nothing_in_a_browser(shown: Open) -> None:
    opened = shown(*map(hostile_report, HOSTILE))
    for summary in opened.locator("summary").all():
        summary.click()
    opened.locator("thead th button").first.click()
    assert opened.locator("tbody tr").count() == len(HOSTILE)
    assert opened.locator("script").count() == 2
