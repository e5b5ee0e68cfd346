"""The context that a connection is made from, and the message hook: with it and without it."""

from __future__ import annotations

import gc
import ssl
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from bowout._core import hook
from bowout._core.openssl_errors import alert_of_reason
from bowout.ending import Alert, EventKind, How, Inbound, Outbound, Side
from bowout.errors import (
    HandshakeAlert,
)
from helpers.engines import (
    alerted,
    close_notify,
    contexts,
    cut,
    established,
    flipped,
    pair,
    read,
    read_out,
    refused,
    send,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.engine import Engine


IGNORE_EOF: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


def test_a_prepared_context_does_not_ignore_truncation() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= IGNORE_EOF
    hook.prepare(context)
    assert not context.options & IGNORE_EOF


def test_a_prepared_context_does_not_renegotiate() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    hook.prepare(context)
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_callback_that_was_there_is_still_called(ca: trustme.CA, version: str) -> None:
    client, server = contexts(ca, version)
    seen: list[str] = []
    fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(fresh)
    fresh.maximum_version = client.maximum_version
    fresh._msg_callback = lambda conn, direction, *_: seen.append(direction)  # type: ignore[attr-defined]
    hook.prepare(fresh)
    pair(fresh, server).shake_hands()
    assert {"read", "write"} <= set(seen)


def test_a_callback_that_was_there_is_given_to_who_asks() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def mine(*_: object) -> None:
        """Nothing."""

    context._msg_callback = mine  # type: ignore[attr-defined]
    hook.prepare(context)
    assert context._msg_callback is mine  # type: ignore[attr-defined]


def test_preparing_twice_hooks_once(ca: trustme.CA) -> None:
    client, server = contexts(ca, "1.3")
    hook.prepare(client)
    two = pair(client, server)
    two.shake_hands()
    read(two.client)
    assert [event.count for event in two.client.timeline.events() if event.kind is EventKind.TICKET] == [2]


def test_a_prepared_context_serves_others_too(ca: trustme.CA) -> None:
    client, _ = contexts(ca, "1.3")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = client.wrap_bio(incoming, outgoing, server_hostname="peer.example")
    with pytest.raises(ssl.SSLWantReadError):
        other.do_handshake()
    assert outgoing.pending > 0


def test_a_watched_engine_is_freed_like_any_other(ca: trustme.CA) -> None:
    two = pair(*contexts(ca, "1.3"))
    two.shake_hands()
    tls, engine = two.client.tls, weakref.ref(two.client)
    del two
    gc.collect()
    assert (engine(), tls.version()) == (None, "TLSv1.3")


def test_a_message_after_the_engine_is_gone_is_nobodys(ca: trustme.CA) -> None:
    tls = established(ca, "1.3").client.tls
    gc.collect()
    with pytest.raises(ssl.SSLWantReadError):
        tls.unwrap()  # It sends an alert, of which the hook hears.


def test_where_there_is_no_hook_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "HOOK", "_no_such_attribute")
    assert not hook.watch(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_what_only_looks_like_a_context_has_no_hook() -> None:
    assert not hook.watch(SimpleNamespace(options=0))  # type: ignore[arg-type]


def test_where_there_is_a_hook_it_says_so() -> None:
    assert hook.watch(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def _clean(us: Engine, them: Engine) -> None:
    them.receive_data(close_notify(us))
    read(them)
    us.receive_data(close_notify(them) or b"")
    read(us)


def _half_closed(us: Engine, them: Engine) -> None:
    close_notify(us)
    send(them, b"reply")
    us.receive_data(take(them))
    read(us)


def _truncated(us: Engine, them: Engine) -> None:
    read_out(cut(us, them, 1))


def _reset(us: Engine, them: Engine) -> None:
    us.receive_reset()
    read_out(us)


def _alerted(us: Engine, them: Engine) -> None:
    read_out(alerted(us, them))


def _alerted_after_close_notify(us: Engine, them: Engine) -> None:
    close_notify(us)
    read_out(alerted(us, them))


def _violated(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)


WAYS: Final = [_clean, _half_closed, _truncated, _reset, _alerted, _alerted_after_close_notify, _violated]


@pytest.mark.parametrize("way", WAYS)
def test_without_the_hook_the_verdict_is_the_same(
    ca: trustme.CA, version: str, monkeypatch: pytest.MonkeyPatch, way: Callable[[Engine, Engine], None]
) -> None:
    def end() -> tuple[How, Outbound, Inbound, Side | None]:
        two = established(ca, version)
        way(two.client, two.server)
        made = two.client.build_ending()
        return made.how, made.outbound, made.inbound, made.started_by

    watched = end()
    monkeypatch.setattr(hook, "watch", lambda _: False)
    assert end() == watched


def test_without_the_hook_a_fatal_alert_still_has_its_name(
    ca: trustme.CA, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "watch", lambda _: False)
    two = established(ca, version)
    read_out(alerted(two.client, two.server))
    assert two.client.build_ending().alert == Alert(20, 2, Side.PEER)


def test_without_the_hook_our_own_alert_is_not_named(ca: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "watch", lambda _: False)
    two = established(ca, "1.3")
    _violated(two.client, two.server)
    assert two.client.build_ending().alert is None


def test_without_the_hook_a_handshake_alert_still_has_its_name(ca: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "watch", lambda _: False)
    error, _, _ = refused(contexts(ca, "1.2")[0], contexts(ca, "1.3")[1])
    assert isinstance(error, HandshakeAlert)
    assert error.alert.name == "protocol_version"


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("SSLV3_ALERT_BAD_RECORD_MAC", "bad_record_mac"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "internal_error"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "certificate_required"),
        ("TLSV1_UNRECOGNIZED_NAME", "unrecognized_name"),
        ("SSLV3_ROLLBACK_ATTACK", None),
        ("WRONG_VERSION_NUMBER", None),
        (None, None),
    ],
)
def test_openssls_reason_names_the_alert(reason: str | None, name: str | None) -> None:
    alert = alert_of_reason(reason)
    assert (alert.name if alert else None) == name
