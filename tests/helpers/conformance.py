"""bowout meets the whole catalogue: the cases, how one is played, and what is written down of it.

What was seen is written down for each interpreter in ``docs/evidence/conformance/``, by
``scripts/generate_conformance.py``.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import platform
import re
import socket
import ssl
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bowout
from bowout import Ending, How, Stream
from bowout.testing import ENDINGS, GREETING, LATE, Entry, Expect, Outcome, Peer, PeerReport, PeerRole, TLSVersion, You
from helpers import tiers
from helpers.leaks import open_fds
from helpers.meeting import LONG, REPLY, SHORT, Met, Scene, meeting, told
from helpers.moves import HELD, MOVES, Way, cancel_close_at, drain, late_when_told
from helpers.runners import BACKENDS, Backend, Runner
from helpers.served import gate
from helpers.tasks import Awaits, in_thread, jobs

RECORDS: Final = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "conformance"
#: A file to which each case adds a line of what was seen.
RECORD_TO: Final = "BOWOUT_CONFORMANCE_RECORD"
#: A close that waits more often than this spins.
MOST_AWAITS: Final = 60

_FLOOD: Final = "floods_after_close_notify"
_FLOOD_CAP: Final = 1 << 20
_COLLECTIONS: Final = 50
#: How many connections a server drains.
_MANY: Final = 8
#: In these the peer cannot be told from one that ends after us: nobody here receives any more.
_NOBODY_READS: Final = frozenset({Way.UNREAD, Way.IDLE, Way.CROSSING})

#: Which of two comes first is the kernel's and the scheduler's choice here: the verdicts that are right are kept.
_RACES: Final = frozenset({"rst_right_after_close_notify"})


#: Of a record that is too short to be encrypted, OpenSSL 3.0.19 says internal_error and 3.0.22 says bad_record_mac: the
#: records in docs/evidence/conformance/ are of an interpreter and not of one patch release.
_PATCH_RELEASES: Final = re.compile(r"(?<=fatal )(?:internal_error|bad_record_mac)(?= by we)")

#: uvloop has a watcher, timers and events of its own, but the tasks and the backend are asyncio's: what does not depend
#: on when the loop wakes us is met on asyncio alone.
_SAME_ON_UVLOOP: Final = frozenset({Way.UNREAD, Way.IDLE, Way.CROSSING})


@dataclass(frozen=True)
class Case:
    """One entry of the catalogue, met in one way.

    Attributes:
        role: the peer's.
    """

    entry: Entry
    tls: TLSVersion
    role: PeerRole
    way: Way
    backend: Backend

    @property
    def we(self) -> str:
        """Our part."""
        return "client" if self.role == "server" else "server"

    def __str__(self) -> str:
        way = self.way.replace(", ", ",").replace(" ", "_")
        return f"{self.entry.row}-{self.entry.name}-{way}-{self.tls}-{self.we}-{self.backend}"

    @property
    def repeats(self) -> bool:
        """Whether other cases show the same, so that it is met in the night only."""
        both = len({tls for tls, _, _ in self.entry.cases()}) > 1
        return tiers.repeats(self.backend, self.tls if both else None, byte_by_byte=self.way is Way.BYTES)

    @property
    def cut_by_openssl(self) -> bool:
        """OpenSSL 3.6 writes no more after user_canceled and close_notify, so what is being sent is cut in half."""
        newest = ssl.OPENSSL_VERSION_INFO[:2] >= (3, 6) and self.tls == "1.3"
        return newest and self.entry.name == "user_canceled_then_close_notify" and self.way is Way.SENDING

    @property
    def ended_by_the_peer(self) -> bool:
        """In TLS 1.2 its close_notify is answered at once, and what waits is dropped (RFC 5246 section 7.2.1)."""
        we_begin = self.entry.you in {You.CLOSE, You.CLOSE_IN_TIME, You.HALF_CLOSE}
        first = not we_begin or self.entry.name == "close_notify_crossing"
        return self.tls == "1.2" and self.way is Way.SENDING and first

    @property
    def right(self) -> Expect:
        """What the catalogue expects, as it looks in this situation."""
        right = self.entry.expect(self.tls, self.role)
        changes: dict[str, Any] = {}
        if self.way is Way.MORE:
            changes = {"data": right.data + LATE}
        elif self.way in _NOBODY_READS:
            read = len(self.entry.sends) if self.way is Way.IDLE else 0
            unread = len(right.data) - read + right.discarded
            changes = {"data": right.data[:read], "discarded": unread, "outcome": Outcome.CLOSED}
            if right.how == {How.TRUNCATED}:
                changes["how"] = frozenset({How.UNANSWERED})
        elif self.way is Way.SENDING and self.entry.you in {You.CLOSE, You.CLOSE_IN_TIME}:
            changes = {"data": b"", "discarded": len(right.data) + right.discarded}
        if self.ended_by_the_peer and How.CLEAN in right.how:
            changes["how"] = right.how - {How.CLEAN} | {How.UNFLUSHED}
        # Sent before the alert, or before the peer was found at fault.
        if self.way in _NOBODY_READS and right.close_notify == frozenset({0}):
            changes["close_notify"] = frozenset({0, 1})
        if self.cut_by_openssl:
            changes |= {"how": frozenset({How.ABORTED}), "close_notify": frozenset({0})}
        if self.entry.row == 26:
            changes["how"] = {Way.AT_EACH_AWAIT: right.how, Way.BESIDE: frozenset({How.UNANSWERED})}.get(
                self.way, frozenset({How.CLEAN})
            )
        return dataclasses.replace(right, **changes)


@dataclass(frozen=True)
class Round:
    """One meeting: what we saw, and what the peer did, of each connection."""

    mets: list[Met]
    reports: tuple[PeerReport, ...]

    @property
    def seen(self) -> str:
        """In a line. Which of our connections was which of the peer's cannot be told where there are several."""
        ours = sorted(_ours(met) for met in self.mets)
        closes = sorted(str(report.close_notify) for report in self.reports)
        return " / ".join(dict.fromkeys(ours)) + "; close_notify at the peer: " + ", ".join(dict.fromkeys(closes))

    def ladders(self) -> str:
        """How we saw it, for a failure: to draw it each time would take a tenth of the suite."""
        return "\n".join(met.ending.ladder() for met in self.mets)

    def picture(self) -> str:
        """The same, and what the peer did."""
        return "\n".join([self.ladders(), *map(str, self.reports)])


def _ours(met: Met) -> str:
    ending = met.ending
    notes = [f"{ending.alert} by {ending.alert.by}"] if ending.alert else []
    notes += [words for words, holds in [("deadline", ending.deadline_hit), ("byte cap", ending.cap_hit)] if holds]
    verdict = ending.how + (f" ({', '.join(notes)})" if notes else "")
    return f"{verdict}; {met.outcome.name.lower()}; we {ending.outbound}; peer {ending.inbound}"


def cases() -> list[Case]:
    """All of them."""
    return [
        Case(entry, tls, role, way, backend)
        for entry in ENDINGS.values()
        for tls, role, _ in entry.cases()
        for way in _ways(entry, role)
        for backend in BACKENDS
        if backend != "uvloop" or way not in _SAME_ON_UVLOOP
    ]


def _ways(entry: Entry, role: PeerRole) -> Iterator[Way]:
    if entry.you is You.DRAIN:
        yield from (Way.WHOLE, Way.BYTES)
        if role == "client":
            yield Way.SERVED
        return
    yield from MOVES[entry.you]
    if entry.you is You.CANCEL_CLOSE:
        yield Way.AT_EACH_AWAIT
    if entry.name == _FLOOD:
        yield Way.DEADLINE


# -- playing


def play(run: Runner, case: Case) -> list[Round]:
    """Meet the peer, in most cases once."""
    if case.way is Way.SERVED:
        return [run(_drain_server, case)]
    if case.way is Way.AT_EACH_AWAIT:
        return list(_cancel_each(run, case))
    with meeting(_entry(case), case.tls, case.role, byte_by_byte=case.way is Way.BYTES) as (peer, socks):
        mets = run(_meet, case, peer, socks)
    return [Round(mets, peer.reports)]


def _cancel_each(run: Runner, case: Case) -> Iterator[Round]:
    for number in range(1, MOST_AWAITS):
        with meeting(case.entry, case.tls, case.role) as (peer, socks):
            awaits = Awaits(number, at_first=peer.go)
            mets = run(_meet, case, peer, socks, awaits)
        yield Round(mets, peer.reports)
        if awaits.count < number:
            assert number > 1, "the close never waited: nothing was cancelled"
            return
    raise AssertionError(f"a close that waits {MOST_AWAITS} times spins")


def _entry(case: Case) -> Entry:
    entry = case.entry
    if case.way is Way.MORE:
        entry = dataclasses.replace(entry, script=late_when_told)
    if entry.row in {22, 26, 27, 29}:
        return entry
    return told(entry, hold=case.way in HELD)


def _options(case: Case) -> dict[str, Any]:
    if case.entry.you is You.LEAVE_HANDSHAKE and case.way in {Way.WHOLE, Way.BYTES}:
        return {"handshake_timeout": SHORT}
    if case.entry.name == _FLOOD:
        return {"linger_bytes": 1 << 40 if case.way is Way.DEADLINE else _FLOOD_CAP}
    return {}


async def _meet(case: Case, peer: Peer, socks: list[socket.socket], awaits: Awaits | None = None) -> list[Met]:
    """Do what the case says, and see to it that nothing is left of the connections."""
    inodes = {f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in socks}
    scenes = [Scene(peer, sock, case.entry, case.role, _options(case)) for sock in socks]
    memory = [weakref.ref(scene.stream._connection) for scene in scenes]
    if case.entry.you is You.DRAIN:
        mets = await drain(scenes)
    elif awaits is not None:
        mets = [await cancel_close_at(awaits)(scenes[0])]
    else:
        mets = [await MOVES[_you(case)][_move(case)](scenes[0])]
    assert all(scene.stream.ending is not None for scene in scenes)
    assert not inodes & set(open_fds().values()), "there is an Ending, and the descriptor is open"
    scenes.clear()
    assert await _freed(memory), "the loop, or something in it, still holds the connection's buffers"
    return mets


async def _freed(memory: list[weakref.ref[Any]]) -> bool:
    """Whether nothing refers to them any more, the loop that still runs included."""
    for _ in range(_COLLECTIONS):
        gc.collect()  # it does nothing while it is at work in a peer's thread
        if not any(ref() for ref in memory):
            return True
        await in_thread(lambda: None)
    return False


def _move(case: Case) -> Way:
    return Way.WHOLE if case.way is Way.DEADLINE else case.way


def _you(case: Case) -> You:
    """A flood runs into the byte cap by itself."""
    return You.CLOSE if case.entry.name == _FLOOD and case.way is not Way.DEADLINE else case.entry.you


async def _drain_server(case: Case) -> Round:
    """A real server, with peers that answer and peers that do not, each with a handler that waits for a request."""
    endings: list[Ending] = []
    greeted: list[bytes] = []
    some, all_here = gate(), gate()

    async def handler(stream: Stream) -> None:
        greeted.append(await stream.receive_exactly(len(case.entry.sends)))
        await stream.send(REPLY)  # a question that was answered: now it is idle
        if len(greeted) == _MANY:
            all_here.set()
        await stream.receive()

    def on_ending(ending: Ending) -> None:
        endings.append(ending)
        if len(endings) == _MANY // 2:
            some.set()

    plain = Peer("answers_close_notify", tls=case.tls)  # for its context
    async with bowout.serve(handler, host="127.0.0.1", context=plain.server_context(), on_ending=on_ending) as server:
        at = ("127.0.0.1", server.port)
        with Peer(case.entry, role="client", tls=case.tls, connect_to=at, connections=_MANY) as peer:
            await all_here.wait()
            async with jobs() as group:
                draining = group.start(server.drain, LONG)
                await some.wait()
                await server.drain(SHORT)
                report = await draining.result()
    assert (report.connections, report.counts) == (_MANY, {How.CLEAN: _MANY // 2, How.UNANSWERED: _MANY // 2}), report
    assert report.cut == _MANY // 2, report
    return Round([Met(ending, Outcome.CLOSED, GREETING) for ending in endings], peer.reports)


# -- what is written down


def interpreter() -> str:
    """The versions that what is seen may depend on."""
    openssl = ".".join(map(str, ssl.OPENSSL_VERSION_INFO[:2]))
    return f"CPython {'.'.join(platform.python_version_tuple()[:2])}, OpenSSL {openssl}"


def record_file() -> Path:
    """Where it is written down for this interpreter."""
    return RECORDS / f"{interpreter().lower().replace(', ', '-').replace(' ', '-')}.json"


def seen(case: Case, rounds: list[Round]) -> str:
    """What has to be the same the next time; of cancellations only what is left when none hits."""
    hows = " or ".join(sorted(case.right.how))
    if case.entry.name in _RACES:
        return f"{hows}; a race"
    if case.way in _NOBODY_READS and case.right.how & {How.ALERT, How.RESET}:
        # How much of it OpenSSL has met when close_notify is queued: then it is sent, or the alert in its place.
        return f"{hows}; {case.right.outcome.name.lower()}; close_notify, or nothing after the error"
    return rounds[-1].seen


def same(before: str | None, what: str) -> bool:
    """Whether what was seen is what is recorded, or nothing is; but for what a patch release of OpenSSL may change."""
    return before is None or _PATCH_RELEASES.sub("…", before) == _PATCH_RELEASES.sub("…", what)


def note(case: Case, what: str) -> None:
    """Add a line to the record, where one is being made."""
    path = os.environ.get(RECORD_TO)
    if path:
        line = json.dumps([case.entry.name, case.way, case.tls, case.we, case.backend, what]) + "\n"
        with open(path, "ab", buffering=0) as file:  # noqa: PTH123  (one write, for several processes append)
            file.write(line.encode())


def recorded(case: Case) -> str | None:
    """What was seen of it on this interpreter when the record was made; None where there is none."""
    path = record_file()
    if os.environ.get(RECORD_TO) or not path.exists():
        return None
    tree = json.loads(path.read_text(encoding="utf-8"))["endings"].get(case.entry.name, {}).get(case.way)
    while isinstance(tree, dict):
        tree = next((tree[key] for key in (case.tls, case.we, case.backend) if key in tree), None)
    return None if tree is None else str(tree)
