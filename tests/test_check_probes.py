"""The probes over real sockets, on each event loop: good servers are called good, and what loses is found."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

import bowout
from bowout import _backends
from bowout.check import PROBES, Finding, Report, Verdict, check
from bowout.check._answer import Completeness
from bowout.check._judge import LARGE, Run
from bowout.check._opener import Pace
from bowout.errors import ConnectRefused
from bowout.testing import Act, Opening, Peer, TLSVersion, client_context, default_ca, server_context
from helpers.checking import BRISK, PATIENT, full, prepared, probe
from helpers.runners import Runner
from helpers.served import serve

SCHEMA: Final = json.loads(resources.files("bowout.check").joinpath("report.schema.json").read_text(encoding="utf-8"))
BODY: Final = b"<p>hello</p>" * 10
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
BIG_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE
#: What the beginning of a large answer says.
BEGUN: Final = Completeness(complete=False, missing=LARGE, declared=LARGE, status=200)
END: Final = b"\r\n\r\n"
OK, NOTE, WARN, LOSS, UNKNOWN = Verdict.OK, Verdict.NOTE, Verdict.WARN, Verdict.DATA_LOSS, Verdict.UNKNOWN


def ours() -> ssl.SSLContext:
    return client_context(default_ca())


async def www(stream: bowout.Stream) -> None:
    """Speak HTTP, well."""
    while True:
        try:
            head = await stream.receive_until(END)
        except bowout.IncompleteRead:
            return
        if not head.startswith(b"GET "):
            await stream.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        await stream.send(BIG_HEAD + bytes(LARGE) if head.startswith(b"GET /big") else ANSWER)
        if b"Connection: close" in head:
            return


def play(
    script: Callable[[Act], object], name: str, *, pace: Any = PATIENT, tls: TLSVersion = "1.3", **more: Any
) -> Any:
    """Probe a server of HTTP that follows `script` on each connection."""
    more.setdefault("protocol", "http")
    baseline = more.pop("baseline", None)

    async def main() -> Any:
        with Peer(script, tls=tls, connections=None) as peer:
            asked = prepared(peer.port, peer.client_context(), pace=pace, **more)
            asked.baseline = baseline
            return await probe(name, asked)

    return asyncio.run(main())


# -- a server that ends well -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_server_of_bowout_is_good_in_every_probe(tls: TLSVersion, run: Runner) -> None:
    async def main() -> Report:
        async with serve(www, context=server_context(default_ca(), tls)) as server:
            asked = prepared(server.port, ours(), protocol="http", pace=PATIENT, idle=0.1, large="/big")
            return await full(asked, intrusive=True)

    report = run(main)
    assert [each.probe for each in report.findings] == list(PROBES)
    # TLS 1.2 requires the server to discard what it had to send (RFC 5246 section 7.2.1).
    dropped = {"half-close": NOTE} if tls == "1.2" else {}
    assert {each.probe: each.verdict for each in report.findings} == dict.fromkeys(PROBES, OK) | dropped
    assert (report.verdict, report.tls, report.worst) == (OK, f"TLSv{tls}", None)
    assert report.address is not None
    assert report.address.startswith(("127.0.0.1:", "[::1]:"))
    assert report.connections == 8 + 1 + 2 + 3
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(report.to_dict())))


def test_the_polite_check_opens_eight_connections_at_most_and_tells_who_we_are() -> None:
    seen: list[bytes] = []

    async def listening(stream: bowout.Stream) -> None:
        with_request = await stream.receive()
        seen.append(with_request)
        if with_request.startswith(b"GET "):
            await stream.send(ANSWER)

    async def main() -> Report:
        async with serve(listening, context=server_context(default_ca())) as server:
            found: list[str] = []
            report = await check(
                "localhost", server.port, context=ours(), timeout=300, on_finding=lambda each: found.append(each.probe)
            )
            assert found == [each.probe for each in report.findings] == list(PROBES[:6])
            return report

    assert asyncio.run(main()).connections == 8
    requests = [each for each in seen if each.startswith(b"GET ")]
    assert requests
    assert all(b"User-Agent: bowout-check/" in each for each in requests)


# -- servers that lose -------------------------------------------------------------------------------------------------


def hangs_up(act: Act) -> None:
    """Answer, but take close_notify for a hang-up: the ending is clean, and the data is lost."""
    act.handshake()
    act.wait_for("close_notify")
    act.close_notify()
    act.fin()


@pytest.mark.parametrize(("tls", "verdict"), [("1.3", LOSS), ("1.2", NOTE)])
def test_a_reply_that_close_notify_drops_is_lost_though_the_ending_is_clean(tls: TLSVersion, verdict: Verdict) -> None:
    whole = Run(received=len(ANSWER))
    found = play(hangs_up, "half-close", tls=tls, baseline=whole)
    assert (found.verdict, found.runs, found.lost) == (verdict, 3, 3)
    assert found.says.startswith(f"0 of {len(ANSWER)} bytes of the answer after our close_notify, then close_notify")
    assert found.ending.clean


def test_a_half_close_without_an_answer_to_compare_with_is_skipped() -> None:
    assert play(hangs_up, "half-close", pace=BRISK).verdict is Verdict.SKIPPED


def stops_in_flight(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(BIG_HEAD + bytes(1 << 16))
    act.wait_for("close_notify")
    act.close_notify()
    act.fin()


def test_a_large_answer_that_stops_at_close_notify_is_lost() -> None:
    found = play(stops_in_flight, "in-flight", large="/big")
    assert (found.verdict, found.lost) == (LOSS, 1)
    assert found.facts["missing"] == LARGE - (1 << 16)


def resets_unread(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(BIG_HEAD + bytes(1 << 12))
    act.rst()


def test_a_reset_over_unread_input_is_found() -> None:
    found = play(resets_unread, "unread-input", large="/big", large_answer=BEGUN)
    assert (found.verdict, found.rule) == (LOSS, "RFC 9112 §9.6")


def refuses_pipelined(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    act.close_notify()
    act.fin()


def test_a_refusal_of_pipelined_requests_is_no_loss() -> None:
    found = play(refuses_pipelined, "unread-input", large="/big", large_answer=BEGUN)
    assert found.verdict is NOTE
    assert "400 and not 200" in found.says


def stops_in_chunks(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n" + bytes(0x4000) + b"\r\n")
    act.wait_for("close_notify")
    act.close_notify()
    act.fin()


def test_a_large_answer_in_chunks_that_stops_at_close_notify_is_lost() -> None:
    assert play(stops_in_chunks, "in-flight", large="/big").verdict is LOSS


def small(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(ANSWER)
    act.close_notify()
    act.fin()


def test_a_small_answer_is_no_large_one() -> None:
    found = play(small, "in-flight", large="/big")
    assert found.verdict is Verdict.SKIPPED
    assert "buffers hide" in found.says


def endless(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(1 << 13))
    act.close_notify()
    act.fin()


@pytest.mark.parametrize("name", ["in-flight", "unread-input"])
def test_an_answer_that_declares_no_length_cannot_be_judged(name: str) -> None:
    found = play(endless, name, large="/big", large_answer=Completeness(complete=None, status=200))
    assert found.verdict is Verdict.SKIPPED
    assert "declares no length" in found.says


def cut_short(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(ANSWER[:-10])
    act.close_notify()
    act.fin()


def test_close_notify_vouches_for_nothing_that_the_answer_declares() -> None:
    found = play(cut_short, "reply-end")
    assert (found.verdict, found.lost) == (LOSS, 1)
    assert found.says == f"10 of {len(BODY)} bytes of its answer never came, then close_notify"
    assert found.ending.clean


def held(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(ANSWER)
    act.close_notify()
    act.silence()


def test_tcp_that_is_held_after_close_notify_is_noted() -> None:
    found = play(held, "tcp-after", pace=BRISK)
    assert (found.verdict, found.facts["then"]) == (NOTE, "open")


def stays(act: Act) -> None:
    act.handshake()
    act.silence()


def test_a_server_that_survives_our_fin_is_noted() -> None:
    assert play(stays, "bare-fin", pace=BRISK).verdict is NOTE


def leaves_badly(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    act.fin()


def test_a_refusal_with_a_bare_fin_is_a_warning() -> None:
    assert play(leaves_badly, "refusal").verdict is WARN


def answers_and_leaves_badly(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(ANSWER)
    act.fin()


def test_an_idle_connection_that_ends_with_a_bare_fin_is_a_warning() -> None:
    found = play(answers_and_leaves_badly, "idle", idle=60.0)
    assert found.verdict is WARN
    assert "idle connection" in found.says


def speaks_after_our_alert(act: Act) -> None:
    act.handshake()
    act.wait_for("alert")
    act.send(b"still here")
    act.close_notify()
    act.fin()


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_data_after_our_fatal_alert_is_a_warning(tls: TLSVersion) -> None:
    found = play(speaks_after_our_alert, "fatal-alert", tls=tls)
    assert found.verdict is WARN
    assert found.facts["received"] == len(b"still here")


def leaves_without_a_word(act: Act) -> None:
    act.handshake()
    act.silence(0.2)
    act.fin()


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_bad_record_without_an_alert_is_a_warning(tls: TLSVersion) -> None:
    assert play(leaves_without_a_word, "bad-record", tls=tls).verdict is WARN


def test_a_server_that_waits_for_the_rest_of_a_handshake_is_noted() -> None:
    def waits(act: Act) -> None:
        act.handshake(stop_at="hello")
        act.silence()

    assert play(waits, "close-in-handshake", pace=BRISK).verdict is NOTE


# -- other protocols ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"", b"220-wait for the next line\r\n"])
def test_nothing_is_sent_before_the_last_line_of_the_greeting(first: bytes) -> None:
    early: list[bytes] = []

    async def greets(stream: bowout.Stream) -> None:
        if first:
            await stream.send(first)
        try:
            async with asyncio.timeout(0.1):
                early.append(await stream.receive())
        except TimeoutError:
            await stream.send(b"220 hello\r\n")
            await stream.receive_until(b"QUIT\r\n")
            await stream.send(b"221 bye\r\n")

    async def main() -> Finding:
        async with serve(greets, context=server_context(default_ca())) as server:
            return await probe("reply-end", prepared(server.port, ours(), protocol="smtp", pace=PATIENT))

    found = asyncio.run(main())
    assert (found.verdict, found.facts["received"], found.facts["complete"]) == (OK, len(b"221 bye\r\n"), True)
    assert early == []


@pytest.mark.parametrize("first", [b"", b"220-wait for the next line\r\n"])
def test_nothing_is_sent_to_a_server_that_does_not_greet_in_time(first: bytes) -> None:
    heard: list[bytes] = []

    async def waits(stream: bowout.Stream) -> None:
        if first:
            await stream.send(first)
        with contextlib.suppress(bowout.BowoutError):
            heard.append(await stream.receive())

    async def main() -> None:
        async with serve(waits, context=server_context(default_ca())) as server:
            with pytest.raises(TimeoutError, match="no greeting within"):
                await probe("reply-end", prepared(server.port, ours(), protocol="smtp", pace=BRISK))

    asyncio.run(main())
    assert not any(heard)


def breaks_tls(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(ANSWER)
    act.send_raw(b"\x17\x03\x03\x00\x30" + bytes(0x30))


@pytest.mark.parametrize(("tls", "rule"), [("1.2", "RFC 5246 §7.2.1"), ("1.3", "RFC 8446 §6.1")])
def test_the_version_is_known_after_a_fatal_error_too(tls: TLSVersion, rule: str) -> None:
    found = play(breaks_tls, "reply-end", tls=tls)
    assert (found.verdict, found.rule, found.facts["end"]) == (WARN, rule, "a record that breaks TLS")


def greets_late(act: Act) -> None:
    act.handshake()
    act.silence(0.3)  # longer than a probe waits for silence
    act.send(b"220 hello\r\n")
    act.wait_for("alert")
    act.fin()


def test_a_late_greeting_is_no_answer_to_our_alert() -> None:
    assert play(greets_late, "fatal-alert", protocol="smtp").verdict is OK


def goes_first(act: Act) -> None:
    act.handshake()
    act.close_notify()
    act.fin()


@pytest.mark.parametrize("name", ["bad-record", "fatal-alert"])
def test_a_server_that_has_ended_before_us_says_nothing_about_our_records(name: str) -> None:
    assert play(goes_first, name, pace=replace(PATIENT, settle=60.0)).verdict is Verdict.SKIPPED


def closes_after_its_answer(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
    act.fin()


def test_an_answer_without_a_length_that_a_bare_fin_ends_was_never_idle() -> None:
    assert play(closes_after_its_answer, "idle", idle=60.0).verdict is Verdict.FAIL


def times_out(act: Act) -> None:
    act.handshake()
    act.read_until(END)
    act.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    act.silence(0.1)
    act.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    act.close_notify()


def test_a_408_after_an_answer_is_no_part_of_it() -> None:
    assert play(times_out, "idle", idle=60.0).verdict is OK


def starts_tls(opening: Opening) -> None:
    opening.send(b"220 hello\r\n")
    opening.read_until(b"\r\n")
    opening.send(b"250-hello\r\n250 STARTTLS\r\n")
    opening.read_until(b"STARTTLS\r\n")
    opening.send(b"220 go\r\n")


def says_bye(act: Act) -> None:
    act.handshake()
    act.read_until(b"QUIT\r\n")
    act.send(b"221 bye\r\n")
    act.fin()


def test_starttls_is_the_same_probe_after_a_dialogue(run: Runner) -> None:
    async def main() -> Finding:
        with Peer(says_bye, opening=starts_tls, connections=None) as peer:
            asked = prepared(peer.port, peer.client_context(), protocol="smtp", starttls="smtp", pace=PATIENT)
            return await probe("reply-end", asked)

    found = run(main)
    assert found.verdict is WARN
    assert found.says == "bare FIN instead of close_notify; its answer declares its own length and is complete"


def test_raw_sends_what_it_is_told() -> None:
    def talks(act: Act) -> None:
        act.handshake()
        act.read_until(b"bye\n")
        act.send(b"ok, bye")
        act.fin()

    assert play(talks, "reply-end", protocol="raw", send=b"bye\n", expect=b"ok").verdict is WARN
    assert play(talks, "reply-end", protocol="raw", send=b"bye\n").verdict is Verdict.FAIL
    assert play(talks, "reply-end", protocol="raw", send=b"bye\n", expect=b"farewell").verdict is LOSS


# -- what cannot be probed -------------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_closed_port_is_unknown_and_asked_once(run: Runner) -> None:
    report = run(lambda: check("127.0.0.1", closed_port(), context=ours()))
    assert [each.probe for each in report.findings] == list(PROBES[:6])
    assert {each.verdict for each in report.findings} == {UNKNOWN}
    assert {each.facts["error"] for each in report.findings} == {"ConnectRefused"}
    assert (report.connections, report.probed, report.verdict, report.tls) == (1, False, UNKNOWN, None)


def test_an_idle_connection_that_is_refused_keeps_no_other_probe_from_its_own() -> None:
    """As a server does that allows one connection at a time, or few."""
    refused: list[int] = []

    async def main() -> Report:
        async with serve(www, context=server_context(default_ca())) as server:
            asked = prepared(server.port, ours(), protocol="http", pace=PATIENT, idle=0.1)
            sibling = asked.opener.sibling()

            async def transport(**_: bool) -> Any:
                refused.append(1)
                raise ConnectRefused(errno.ECONNREFUSED, "it has enough connections")

            sibling.transport = transport  # type: ignore[method-assign]
            asked.opener.sibling = lambda: sibling  # type: ignore[method-assign]
            return await full(asked)

    report = asyncio.run(main())
    assert refused == [1]
    assert {each.probe for each in report.findings if each.verdict is UNKNOWN} == {"idle"}


def test_a_small_buffer_goes_to_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        assert host == "localhost"
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    async def main() -> str | None:
        with Peer(stays, connections=None) as peer:
            opener = prepared(peer.port, peer.client_context(), pace=PATIENT).opener
            monkeypatch.setattr(socket, "getaddrinfo", lookup)
            try:
                await opener.open(small_buffer=True)
            finally:
                opener.abandon()
            return opener.address

    address = asyncio.run(main())
    assert address is not None
    assert address.startswith("127.0.0.1:")


@pytest.mark.parametrize("small_buffer", [False, True])
def test_a_connection_that_is_refused_is_the_same_error_with_any_buffer(run: Runner, small_buffer: bool) -> None:
    async def main() -> None:
        opener = prepared(closed_port(), ours(), host="127.0.0.1").opener
        with pytest.raises(ConnectRefused, match="refused the connection"):
            await opener.transport(small_buffer=small_buffer)

    run(main)


def test_a_certificate_that_is_not_trusted_is_unknown_and_seen_once() -> None:
    async def main() -> Report:
        async with serve(www, context=server_context(default_ca())) as server:
            return await check("localhost", server.port)

    report = asyncio.run(main())
    assert {each.facts["error"] for each in report.findings} == {"CertificateError"}
    assert report.connections == 1
    assert report.findings[0].ending is not None


def test_no_time_left_is_unknown_and_no_row_is_missing(run: Runner) -> None:
    async def main() -> Report:
        with Peer(stays, connections=None) as peer:
            return await check("localhost", peer.port, context=peer.client_context(), timeout=0.3)

    report = run(main)
    assert [each.probe for each in report.findings] == list(PROBES[:6])
    assert {each.verdict for each in report.findings} == {UNKNOWN}
    assert "no time was left of 0.3 s" in report.findings[-1].says


def test_plain_text_and_a_hostile_banner_are_escaped() -> None:
    def banner(opening: Opening) -> None:
        opening.send(b"220 \x1b[2J\x07hello\r\n")

    async def main() -> Report:
        with Peer(stays, opening=banner, connections=None) as peer:
            return await check("localhost", peer.port, context=peer.client_context())

    report = asyncio.run(main())
    assert report.findings[0].facts["error"] == "NotTLS"
    assert all(each.says.isprintable() for each in report.findings)


def test_a_cancelled_check_leaves_no_connection() -> None:
    """The guard of every test finds a descriptor that is left."""

    def waits(act: Act) -> None:
        act.handshake()
        act.ready()
        act.silence()

    async def main() -> None:
        with Peer(waits, connections=None) as peer:
            task = asyncio.create_task(check("localhost", peer.port, context=peer.client_context()))
            await asyncio.to_thread(peer.wait_ready)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_a_check_with_an_idle_connection_beside_it_can_be_cancelled(run: Runner) -> None:
    found: list[str] = []

    async def main() -> bool:
        loop = _backends.current()
        async with serve(www, context=server_context(default_ca())) as server:
            async with loop.move_on_at(loop.time() + 300) as scope:

                def observe(finding: Finding) -> None:
                    found.append(finding.probe)
                    if finding.probe == "refusal":  # Only the idle one is left.
                        scope.tighten(loop.time())

                await check("127.0.0.1", server.port, server_hostname="localhost", context=ours(), idle=300,
                            timeout=300, on_finding=observe)  # fmt: skip
            return scope.expired

    assert run(main)
    assert found == list(PROBES[:6])


def test_connect_gives_each_probe_its_own_connection() -> None:
    async def main() -> Report:
        async with serve(www, context=server_context(default_ca())) as server:
            port = server.port

            async def connect() -> socket.socket:
                return socket.create_connection(("127.0.0.1", port))

            return await check("localhost", 1, context=ours(), connect=connect, timeout=300)

    report = asyncio.run(main())
    assert report.endpoint == "localhost:1"
    assert report.connections == 8
    assert report.probed


def test_only_the_wanted_probes_are_made_in_their_order() -> None:
    async def main() -> Report:
        async with serve(www, context=server_context(default_ca())) as server:
            return await check(
                "localhost", server.port, context=ours(), probes=["half-close", "answers"], timeout=300, idle=0.1
            )

    report = asyncio.run(main())
    assert [each.probe for each in report.findings] == ["answers", "half-close", "idle"]
    assert report.findings[1].verdict is Verdict.SKIPPED
    assert report.connections == 2


def test_an_error_of_the_observer_is_raised_as_it_is() -> None:
    class Noticed(Exception):
        """What the observer of this test raises."""

    def observe(_: Finding) -> None:
        raise Noticed

    async def main(idle: float | None) -> None:
        async with serve(www, context=server_context(default_ca())) as server:
            with pytest.raises(Noticed):
                await check("localhost", server.port, context=ours(), idle=idle, on_finding=observe)

    for idle in (None, 5.0):
        asyncio.run(main(idle))


def test_more_time_for_all_is_more_for_each() -> None:
    assert Pace.within(1.0) == Pace(total=1.0)
    assert Pace.within(10.0) == Pace()
    longer = Pace.within(30.0)
    assert (longer.total, longer.opening, longer.connection, longer.after) == (30.0, 9.0, 9.0, 6.0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"protocol": "gopher"}, ValueError),
        ({"send": "text"}, TypeError),
        ({"send": b"x", "protocol": "http"}, ValueError),
        ({"large": "big"}, ValueError),
        ({"large": "/a b"}, ValueError),
        ({"large": "/a\r\nEvil: 1"}, ValueError),
        ({"idle": 0}, ValueError),
        ({"probes": []}, ValueError),
        ({"probes": ["bad-record"]}, ValueError),
        ({"probes": "answers"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"intrusive": 1}, TypeError),
        ({"starttls": "gopher"}, ValueError),
        ({"on_finding": 3}, TypeError),
        ({"connect": 3}, TypeError),
        ({"context": 3}, TypeError),
        ({"host": ""}, ValueError),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_opened(options: dict[str, Any], error: type[Exception]) -> None:
    arguments: dict[str, Any] = {"host": "127.0.0.1", "port": closed_port()} | options
    with pytest.raises(error):
        asyncio.run(check(**arguments))
