"""The generated pages of the reference say what the program does."""

from __future__ import annotations

import pkgutil
import re
import runpy
from importlib import import_module
from typing import Final

import jsonschema
import pytest

import bowout
from bowout import Alert, Ending, Event, EventKind, How, Inbound, Outbound, Side
from helpers.peers import ROOT

_SCRIPT: Final = runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))
FOLDER, pages, schema = _SCRIPT["FOLDER"], _SCRIPT["pages"], _SCRIPT["schema"]
ALERT = Alert(20, 2, Side.PEER)
ENDINGS = [
    Ending(how=How.CLEAN, started_by=None, outbound=Outbound.FIN_SENT, inbound=Inbound.CLOSE_NOTIFY),
    Ending(
        how=How.ALERT, started_by=Side.PEER, outbound=Outbound.LOST, inbound=Inbound.FATAL_ALERT, alert=ALERT,
        unacknowledged=3, close_notify_sent_at=0.5, tls_version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384",
        events=(
            Event(EventKind.DATA, Side.WE, 0.1, sent=3, count=2, until=0.2),
            Event(EventKind.ALERT, Side.PEER, 0.3, alert=ALERT),
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize("name", pages())
def test_a_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.how)
def test_an_ending_is_as_the_schema_says(ending: Ending) -> None:
    jsonschema.validate(ending.to_dict(), schema())


def test_the_schema_refuses_what_is_no_ending() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**ENDINGS[0].to_dict(), "how": "well"}, schema())


def test_every_key_is_described() -> None:
    assert [key for key, about in schema()["properties"].items() if not about["description"]] == []


def test_each_public_module_has_a_page() -> None:
    modules = {module.name for module in pkgutil.iter_modules(bowout.__path__)}
    public = {f"bowout.{name}" for name in modules if not name.startswith("_")} | {"bowout"}
    pages_of_modules = {path.stem for path in (FOLDER / "api").glob("*.md")}
    # The names of the one are those of bowout; the command line has a page of its own.
    assert public - pages_of_modules == {"bowout.cli", "bowout.ending"}


@pytest.mark.parametrize("module", ["bowout", "bowout.testing"])
def test_each_public_name_has_its_place_on_a_page(module: str) -> None:
    """Where a page chooses the order of its entries, none is forgotten, and each is on one page."""
    pages_of_entries = [FOLDER / "api" / f"{module}.md"]
    if module == "bowout":
        pages_of_entries.append(FOLDER / "api" / "bowout.errors.md")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages_of_entries)
    entries = re.findall(rf"^::: {module}\.([A-Za-z]\w*)$", text, re.MULTILINE)
    assert sorted(set(entries) - {"errors"}) == sorted(import_module(module).__all__)
    assert len(entries) == len(set(entries))


@pytest.mark.parametrize("name", ["AlertReceived", "Truncated"])
def test_an_exception_of_asyncio_is_listed_beside_its_public_name(name: str) -> None:
    (row,) = (line for line in pages()["exceptions.md"].splitlines() if line.startswith(f"| `Connection{name}` |"))
    assert f"bowout.errors.md#bowout.{name})" in row
    assert row.endswith("| `ConnectionResetError` |")
