"""Try build/site in Chromium as its readers use it: search, copy, dark, 400 pixels, and no request to elsewhere.

Without playwright or Chromium it says so and tries nothing, except in CI, where both must be there.
"""

from __future__ import annotations

import contextlib
import http.server
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.peers import find_program, in_ci, listed_programs  # noqa: E402  (found by the line above)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

SITE: Final = ROOT / "build" / "site"
#: Width of a narrow screen, in pixels.
NARROW: Final = 400
#: What is searched for, and a page that must be among the first results.
SEARCHED: Final = {
    "half-close": "how-to/half-close.html",
    "truncated": "reference/exceptions.html",
    "open_connection": "migration/index.html",
}
#: So many results are first.
FIRST: Final = 8
#: A page with a terminal session: its commands are copied, without the prompt and the output.
SESSION: Final = ("tutorial/3-leave.html", ["python chat.py", "python chat_trio.py"])
_SCHEME: Final = "document.body.getAttribute('data-md-color-scheme')"
_BACKGROUND: Final = "getComputedStyle(document.body).backgroundColor"
_WIDE: Final = "document.documentElement.scrollWidth"
#: The innermost elements that are cut off at the right; what scrolls by itself, such as a table, is not asked.
_CULPRITS: Final = """
() => [...document.querySelectorAll("article *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth && !e.closest(".md-typeset__scrollwrap, pre, code"))
    .slice(0, 3).map(e => e.outerHTML.slice(0, 80))
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site, and says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the site on the loopback; give its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Reader:
    """Reads pages, and remembers what is wrong.

    Attributes:
        faults: a line for each.
    """

    def __init__(self, browser: Browser, home: str) -> None:
        self.faults: list[str] = []
        self._browser = browser
        self._home = home

    @contextlib.contextmanager
    def page(self, width: int = 1200) -> Iterator[Page]:
        """Open an empty page of this width, whose requests and messages are watched."""
        context = self._browser.new_context(viewport={"width": width, "height": 800}, color_scheme="light")
        page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self.faults.append(f"{page.url}: {message.text}"))
        page.on("request", lambda request: self._look(page, request.url))
        page.on("response", lambda response: self._judge(page, response.url, response.status))
        try:
            yield page
        finally:
            context.close()

    def search(self, word: str, wanted: str) -> None:
        """Search for a word, and find its page."""
        with self.page() as page:
            page.goto(self._home)
            page.fill("input.md-search__input", word)
            results = page.locator("li.md-search-result__item > a.md-search-result__link")
            results.first.wait_for()
            found = [urljoin(page.url, link.get_attribute("href") or "") for link in results.all()[:FIRST]]
            if not any(link.startswith(self._home + wanted) for link in found):
                self.faults.append(f"a search for {word} finds {found}")

    def copy(self) -> None:
        """Copy a terminal session; only its commands are in the clipboard."""
        name, commands = SESSION
        with self.page() as page:
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            page.goto(self._home + name)
            block = page.locator("div.highlight", has_text=f"$ {commands[0]}")
            block.hover()
            block.locator("[data-clipboard-target]").click()
            page.locator(".md-dialog--active").wait_for()
            copied = page.evaluate("navigator.clipboard.readText()")
            if copied.splitlines() != commands:
                self.faults.append(f"the button of a terminal session copies {copied!r}")

    def darken(self) -> None:
        """Switch to dark; another page is dark, too."""
        with self.page() as page:
            page.goto(self._home)
            light = page.evaluate(_SCHEME), page.evaluate(_BACKGROUND)
            page.locator("label[title=Dark]:visible").click()
            page.wait_for_function(f"{_SCHEME} === 'slate'")
            page.goto(self._home + "tutorial/index.html")
            dark = page.evaluate(_SCHEME), page.evaluate(_BACKGROUND)
            if dark[0] != "slate" or light[0] == dark[0] or light[1] == dark[1]:
                self.faults.append(f"the dark scheme does not stay: {light}, then {dark}")

    def read_all(self) -> int:
        """Open every page on a narrow screen; return their number."""
        pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
        with self.page(NARROW) as page:
            for name in pages:
                page.goto(self._home + name)
                if (wide := page.evaluate(_WIDE)) > NARROW:
                    self.faults.append(
                        f"{name} is {wide} pixels wide on a screen of {NARROW}: {page.evaluate(_CULPRITS)}"
                    )
        return len(pages)

    def _look(self, page: Page, address: str) -> None:
        if not address.startswith((self._home, "data:", "blob:")):
            self.faults.append(f"{page.url} asks for {address}")

    def _judge(self, page: Page, address: str, status: int) -> None:
        if status >= 400:
            self.faults.append(f"{page.url}: {address} has status {status}")


def missing() -> str | None:
    """Return what is missing for a trial, or None."""
    try:
        import playwright.sync_api  # noqa: F401, PLC0415  (it may be missing)
    except ModuleNotFoundError:
        return "playwright (the dependency group `test`)"
    return None if find_program(listed_programs()["chromium"][0]) else "chromium (Debian's package: chromium)"


def main() -> int:
    """Print what is wrong; return the exit status."""
    if lack := missing():
        print(f"{'error' if in_ci() else 'note'}: the site is not tried, without {lack}", file=sys.stderr)
        return 1 if in_ci() else 0
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (it may be missing)

    chromium = find_program(listed_programs()["chromium"][0])
    with served() as home, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        reader = Reader(browser, home)
        for word, wanted in SEARCHED.items():
            reader.search(word, wanted)
        reader.copy()
        reader.darken()
        count = reader.read_all()
        browser.close()
    for fault in reader.faults:
        print(f"error: {fault}", file=sys.stderr)
    print(f"tried {count} pages in Chromium, {len(reader.faults)} faults")
    return 1 if reader.faults else 0


if __name__ == "__main__":
    sys.exit(main())
