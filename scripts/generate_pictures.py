"""Draw docs/pictures again, from real connections: ``scripts/generate_pictures.py``.

Times differ from run to run, so run it only after a change of the demo or the ladder, and inspect the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

import bowout
from bowout.testing import Act, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"

#: A server has a different port each time; a fixed name avoids needless changes of the pictures.
ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):\d+")
NAME = "localhost:4433"


def demo() -> Iterator[tuple[str, str]]:
    """The acts of the demo: the name and the text of each picture."""
    with tempfile.TemporaryDirectory() as drawn:
        subprocess.run([sys.executable, "-m", "bowout", "demo", "--svg", drawn], stdout=subprocess.DEVNULL, check=True)
        for picture in sorted(Path(drawn).glob("*.svg")):
            yield picture.stem, picture.read_text(encoding="utf-8")


def cut_after_a_record(act: Act) -> None:
    """What a client sees of docs/explanation/truncation.md."""
    act.handshake()
    act.send(bytes(16384))
    act.fin()


async def truncation() -> bowout.Ending:
    """Return the ending of a stream that is cut off."""
    with Peer(cut_after_a_record) as peer:
        stream = await bowout.connect(peer.host, peer.port, context=peer.client_context())
        with contextlib.suppress(bowout.Truncated):
            async with stream:
                async for _ in stream:
                    pass
        assert stream.ending
        return stream.ending


async def hello() -> bowout.Ending:
    """Return the ending of the client in docs/tutorial/6-how-did-it-end.md."""

    def echo(act: Act) -> None:
        act.handshake()
        act.send(act.read_until(b"\n"))
        act.expect_close_notify()
        act.close_notify()
        act.fin()

    with Peer(echo) as peer:
        async with bowout.connect("localhost", peer.port, context=peer.client_context()) as stream:
            await stream.send(b"hello\n")
            await stream.receive()
        assert stream.ending
        return stream.ending


async def half_close(version: ssl.TLSVersion) -> bowout.Ending:
    """Return the ending of a client that half-closes and waits for an answer: docs/explanation/versions.md."""
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    ours.minimum_version = ours.maximum_version = version

    async def answer(stream: bowout.Stream) -> None:
        question = b"".join([chunk async for chunk in stream])
        with contextlib.suppress(bowout.PeerClosed):  # TLS 1.2
            await stream.send(b"an answer to " + question)

    async with bowout.serve(answer, "localhost", 0, context=theirs) as server:
        async with bowout.connect("localhost", server.port, context=ours) as stream:
            await stream.send(b"a question")
            await stream.send_eof()
            await stream.receive()
        assert stream.ending
        return stream.ending


def pictures() -> Iterator[tuple[str, str]]:
    """The name and the text of each picture."""
    yield from demo()
    yield "hello", asyncio.run(hello()).ladder_svg()
    yield "truncation", asyncio.run(truncation()).ladder_svg()
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        name = "half-close-" + version.name.removeprefix("TLSv").replace("_", ".")
        yield name, asyncio.run(half_close(version)).ladder_svg()


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, text in pictures():
        target = PICTURES / f"{name}.svg"
        target.write_text(ADDRESS.sub(NAME, text), encoding="utf-8")
        print(target.relative_to(PICTURES.parents[1]))


if __name__ == "__main__":
    main()
