"""Write the scoreboard: how real servers and clients end TLS, as scoreboard/DATE.json and scoreboard/index.html.

python scripts/scoreboard.py                            # run all: a quarter of an hour
python scripts/scoreboard.py --only nginx --only curl   # run some, and print the JSON
python scripts/scoreboard.py --page FILE                # write the page again from its JSON
python scripts/scoreboard.py --diff A B > diff.html     # what differs from board A to board B
python scripts/scoreboard.py --show nginx answers       # make the runs of one cell again
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from scoreboard_page import BadBoardError, board_page, diff_page, load

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET: Final = ROOT / "scoreboard"
#: Number of checks of a server (each has three runs of half-close), and of runs of a client in a column.
_RUNS: Final = 10
_CLIENT_RUNS: Final = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _options().parse_args(arguments)
    try:
        return _run(options)
    except BadBoardError as error:
        print(f"error: {error}", file=sys.stderr)
        print("hint:  give a JSON file that `make scoreboard` has written", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.diff:
        before, after = map(load, options.diff)
        sys.stdout.write(diff_page(before, after))
        return 0
    if options.page:
        _write(options.out / "index.html", board_page(load(options.page)))
        return 0
    # Only now: pages are made without the programs and libraries of the tests.
    sys.path[:0] = [path for path in (str(ROOT / "tests"), str(ROOT / "src")) if path not in sys.path]
    import scoreboard_runs as runs  # noqa: PLC0415

    if unknown := runs.unknown_names([*options.only, *options.show[:1]], options.show[1:]):
        print(f"error: {unknown}", file=sys.stderr)
        print("hint:  the names are those of scoreboard/index.html", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bowout-scoreboard-") as shared:
        if options.show:
            name, column = options.show
            sys.stdout.write(runs.shown(name, column, options.runs, Path(shared)))
            return 0
        board = runs.measured(
            runs=options.runs,
            client_runs=options.client_runs,
            only=frozenset(options.only),
            shared=Path(shared),
            date=options.date,
            tell=lambda name: print(f"{name} …", file=sys.stderr, flush=True),
        )
    text = json.dumps(board, indent=1, ensure_ascii=False) + "\n"
    if options.only:
        sys.stdout.write(text)
        return 0
    _write(options.out / f"{options.date}.json", text)
    _write(options.out / "index.html", board_page(board))
    return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=_count, default=_RUNS, metavar="N", help="checks of each server (%(default)s)")
    parser.add_argument(
        "--client-runs", type=_count, default=_CLIENT_RUNS, metavar="N", help="runs of each client (%(default)s)"
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="run this server or client only")
    parser.add_argument("--date", default=dt.datetime.now(dt.UTC).date().isoformat(), help="of the board")
    parser.add_argument("--out", type=Path, default=TARGET, metavar="DIR", help="where to write (scoreboard/)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of this board")
    parser.add_argument("--diff", type=Path, nargs=2, metavar=("A", "B"), help="write the page of their difference")
    parser.add_argument("--show", nargs=2, default=[], metavar=("NAME", "COLUMN"), help="make one cell again")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


if __name__ == "__main__":
    sys.exit(main())
