"""Ask every address that the texts of the repository name whether it is there: for the night, since others answer.

python scripts/check_links.py             exits with 1 if an address is lost
python scripts/check_links.py --list      prints the addresses, and asks none

httpx asks: the tests have it, it pools connections, and its errors tell a name that is gone from a server that is slow.
A crawler of sites would look at the built pages only, and knows no retries.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path
from typing import Final

import httpx

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.documents import links  # noqa: E402  (found by the line above)

#: Addresses that are not asked: those of examples, of a reader's own machine, and of this project before its release.
NOT_ASKED: Final = re.compile(
    r"https?://(?:[^/]*\.)?(?:example\.(?:org|com|net)|example|localhost|127\.0\.0\.1)\b"
    r"|https://(?:github\.com|raw\.githubusercontent\.com)/bowout/bowout\b"
)
#: Answers that are no fault of a link: a robot is refused, or asks too often.
REFUSALS: Final = frozenset({401, 403, 405, 429, 999})
ATTEMPTS: Final = 3
#: Seconds before the second attempt; twice as many before the third.
PAUSE: Final = 5.0
#: Requests at the same time, and seconds for each.
AT_ONCE: Final = 8
TIMEOUT: Final = 30.0


def addresses() -> dict[str, list[str]]:
    """Return each address that a text links to, without its anchor, with the files that do."""
    found: dict[str, list[str]] = {}
    folders = (ROOT / name for name in (".github", "changelog.d", "docs", "examples"))
    for path in sorted([*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]):
        for link in links(path):
            address = link.partition("#")[0]
            if re.match("https?:", address) and not NOT_ASKED.match(address):
                found.setdefault(address, []).append(path.relative_to(ROOT).as_posix())
    return found


async def fault(client: httpx.AsyncClient, address: str, *, pause: float = PAUSE) -> str | None:
    """Return what is wrong with an address after all attempts, or None."""
    wrong: str | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(pause * attempt)
        try:
            async with client.stream("GET", address) as response:
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            wrong = str(error) or type(error).__name__
            continue
        if status < 400 or status in REFUSALS:
            return None
        wrong = f"status {status}"
        if status < 500:
            break
    return wrong


async def ask(found: dict[str, list[str]]) -> list[str]:
    """Return a line for each address that is lost."""
    turns = asyncio.Semaphore(AT_ONCE)
    headers = {"User-Agent": "bowout's check of the links in its documentation"}
    async with httpx.AsyncClient(follow_redirects=True, timeout=TIMEOUT, headers=headers) as client:

        async def one(address: str) -> str | None:
            async with turns:
                wrong = await fault(client, address)
            return f"{address}: {wrong} ({', '.join(sorted(set(found[address])))})" if wrong else None

        lines = await asyncio.gather(*(one(address) for address in found))
    return [line for line in lines if line]


def main() -> int:
    """Print what is lost; return the exit status."""
    parser = argparse.ArgumentParser(description="Ask every address that the texts name whether it is there.")
    parser.add_argument("--list", action="store_true", help="print the addresses, and ask none")
    options = parser.parse_args()
    found = addresses()
    if options.list:
        print("\n".join(found))
        return 0
    lost = asyncio.run(ask(found))
    for line in lost:
        print(f"error: {line}", file=sys.stderr)
    print(f"{len(found)} addresses, {len(lost)} lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
