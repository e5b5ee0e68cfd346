"""Hooks of mkdocs (mkdocs.yml): what a page of docs/ needs to be a page of the site, too."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = "https://github.com/bowout/bowout/blob/main/"
#: Folder of the site for files from outside docs/.
COPIES: Final = "repository"
#: Files that a page shows, or that a reader opens in the browser; other files are linked where they are.
SHOWN: Final = frozenset({".html", ".json", ".svg"})
#: How much more, or less, a page is worth in the search than others; the first that fits.
_BOOSTS: Final = {"reference/exceptions.md": 12, "migration/": 3, "evidence/": 0.3}
#: Their names are those of other libraries, too.
_MODULES: Final = frozenset({"aiohttp", "anyio", "asyncio", "httpcore", "trio"})
_LINK: Final = re.compile(r"(\]\()(\.\./[^)\s#]*)")
_GENERATED: Final = re.compile(r"^<!-- (?:The catalogue, g|G)enerated (.*?)\. Do not edit: .* -->$", re.MULTILINE)
_DIAGRAM: Final = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Names in a page's text, and what has no links in it: an anchor, a heading, a block of code.
_NAME: Final = re.compile(
    r"<(a|autoref|h\d|pre)\b.*?</\1>|<code>((?:bowout\.)?[A-Za-z_.]+)(\([^<]*\))?</code>", re.DOTALL
)
#: A line of output in the session of a terminal.
_OUTPUT: Final = re.compile(r'(<span class="go">[^<]*)</span>\n')
_STATE: Final = re.compile(r"^ +(\w+) : (.*)$", re.MULTILINE)
_ARROW: Final = re.compile(r"^ +(\w+) --> (\w+) : (.*)$", re.MULTILINE)


def outside(page: str, link: str) -> str | None:
    """Return what a link of the page leads to, as a path of the repository; None for a file of docs/."""
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if target.startswith("docs/") else target


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files outside docs/ that pages show."""
    wanted = {
        target
        for file in files.documentation_pages()
        for _, link in _LINK.findall(file.content_string)
        if (target := outside(file.src_uri, link)) and Path(target).suffix in SHOWN
    }
    for target in sorted(wanted):
        files.append(File.generated(config, f"{COPIES}/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead links to files outside docs/ to their copy or to the repository; mark generated text; weigh the page."""
    here: str = page.file.src_uri
    page.meta["search"] = {"boost": next((boost for start, boost in _BOOSTS.items() if here.startswith(start)), 1)}

    def lead(found: re.Match[str]) -> str:
        target = outside(here, found[2])
        if target is None:
            return found[0]
        if not (ROOT / target).exists():
            message = f"{here} links to {target}, which does not exist"
            raise FileNotFoundError(message)
        if Path(target).suffix in SHOWN:
            return found[1] + posixpath.relpath(f"{COPIES}/{target}", posixpath.dirname(here))
        return found[1] + REPOSITORY + target

    marked = _GENERATED.sub(r'!!! info "Generated \1"', markdown)
    return _LINK.sub(lead, _DIAGRAM.sub(_as_table, marked))


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Lead each public name in the text to its entry in the reference: within that, the short names, too.

    And let a line of output hold its own end, so that assets/copy.css hides it as a whole.
    """
    inside = "reference/api/" in page.file.src_uri

    def lead(found: re.Match[str]) -> str:
        name = found[2]
        if name is None or not (name.startswith("bowout.") or (inside and name not in _MODULES)):
            return found[0]
        identifier = name if name.startswith("bowout.") else f"bowout.{name}"
        return f'<autoref optional identifier="{identifier}">{found[0]}</autoref>'

    return _OUTPUT.sub(r"\1\n</span>", _NAME.sub(lead, html))


def _as_table(diagram: re.Match[str]) -> str:
    """Return a state diagram as a table: the program that draws it in a browser is larger than the whole site."""
    names = dict(_STATE.findall(diagram[1]))
    rows = [f"| {names[start]} | {signal} | {names[end]} |" for start, end, signal in _ARROW.findall(diagram[1])]
    return "\n".join(["| state | signal | next state |", "|---|---|---|", *rows])
