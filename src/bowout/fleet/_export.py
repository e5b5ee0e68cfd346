"""The results of a store as files: JSON Lines, CSV, Parquet."""

from __future__ import annotations

import csv
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bowout._text import cell
from bowout.fleet._errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: The columns of CSV and Parquet, one row for each finding, with their types in Parquet.
COLUMNS: Final = {
    "endpoint": "string",
    "starttls": "string",
    "address": "string",
    "tls": "string",
    "endpoint_verdict": "string",
    "probe": "string",
    "verdict": "string",
    "says": "string",
    "rule": "string",
    "runs": "int32",
    "lost": "int32",
    "seconds": "float64",
}
#: Rows of one group of Parquet.
_GROUP: Final = 10_000


def write_json_lines(reports: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write one report, JSON of version 1, in each line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(report) + "\n" for report in reports)


def write_csv(reports: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write one finding in each line; no cell can be a formula of a spreadsheet."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([cell(value) for value in row.values()] for row in _findings(reports))


def write_parquet(reports: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write one finding in each row.

    Raises:
        FleetError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  (an extra)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise FleetError("Parquet needs pyarrow", "pip install 'bowout[parquet]', or export .csv or .jsonl") from error
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in COLUMNS.items()])
    rows = _findings(reports)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(itertools.islice(rows, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))


_WRITERS: Final[Mapping[str, Callable[[Iterable[Mapping[str, Any]], Path], None]]] = {
    ".jsonl": write_json_lines,
    ".csv": write_csv,
    ".parquet": write_parquet,
}
#: The endings of the names of files: each stands for a format.
ENDINGS: Final = tuple(_WRITERS)


def export(reports: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write `reports` to the file `path`, in the format of its ending: .jsonl, .csv or .parquet.

    The file appears when it is complete: a failure leaves an older one as it was.

    Raises:
        FleetError: the ending is another, the file cannot be written, or pyarrow is not installed.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise FleetError(f"'{path}' does not end in {', '.join(ENDINGS)}", "the name's ending is the format")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as directory:
            unfinished = Path(directory) / path.name
            write(reports, unfinished)
            os.replace(unfinished, path)  # noqa: PTH105  (it says that it replaces)
    except OSError as error:
        raise FleetError(
            f"cannot write '{path}': {error.strerror or error}", "the store is unchanged: export it elsewhere"
        ) from error


def _findings(reports: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for report in reports:
        for finding in report["findings"]:
            row = {name: finding.get(name, report.get(name)) for name in COLUMNS}
            yield {**row, "endpoint_verdict": report["verdict"]}
