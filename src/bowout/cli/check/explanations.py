"""The texts of ``bowout check --explain``: one for each verdict and each probe.

A remedy is named only where it is known to help; where a server has no setting for it, the text says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a name means.

    Attributes:
        what: what it is.
        why: why it matters.
        rule: the section that decides.
        mend: remedies, by server.
    """

    what: str
    why: str = ""
    rule: str = ""
    mend: Mapping[str, str] = field(default_factory=dict)


VERDICT_TEXTS: Final[dict[str, Explanation]] = {
    "OK": Explanation(what="Nothing is wrong."),
    "NOTE": Explanation(
        what="It is allowed, but it costs somebody something: a client waits for its deadline, a TCP connection stays "
        "open, an answer is dropped that TLS 1.2 lets a server drop. It does not count for the endpoint's verdict.",
    ),
    "SKIPPED": Explanation(
        what="The probe was not made, or it could not tell anything here; the report says why. It does not count."
    ),
    "UNKNOWN": Explanation(
        what="The probe failed, so that nothing is known: no connection, no handshake, no answer, or no time left. The "
        "report names the error. A busy server may answer the next time.",
    ),
    "WARN": Explanation(
        what="A rule of TLS is broken, but nothing was lost: the answer declares its own length and is complete, or "
        "nothing was to come.",
        why="A client that is strict reports an error; one that is not has learned to ignore real truncations.",
        rule="RFC 8446 §6.1: each side MUST send close_notify before it closes, unless it has sent an error alert.",
    ),
    "FAIL": Explanation(
        what="A truncation could pass for a complete answer: the connection ended without close_notify after data of "
        "undeclared length.",
        why="Anybody on the way can cut such a connection with a forged FIN or RST, and the client cannot tell.",
        rule="RFC 9112 §9.8: an answer that the end of the connection delimits is complete only with close_notify.",
    ),
    "DATA-LOSS": Explanation(
        what="Fewer bytes came than the server had declared, or had sent to the same request before.",
        why="If close_notify follows, the ending looks clean: close_notify vouches for the part as if it were all.",
        rule="RFC 8446 §6.1: close_notify ends one direction; the other side may go on sending what it has.",
    ),
}

_CLOSE_WELL: Final = {
    "Node": "End with socket.end(), and not with destroy(), which sends a bare FIN.",
    "Go": "tls.Conn.Close sends close_notify, and net/http calls it. Do not close the net.Conn under it.",
    "any": "Send close_notify, then FIN, then read until the peer's FIN. bowout.serve does it.",
}

PROBE_TEXTS: Final[dict[str, Explanation]] = {
    "reply-end": Explanation(
        what="A request after whose answer the server has to end the connection (Connection: close, QUIT, LOGOUT). Is "
        "the answer complete, and does close_notify follow it?",
        why="Without close_notify a client cannot tell the end from a cut.",
        rule="RFC 8446 §6.1, RFC 5246 §7.2.1, RFC 9112 §9.8",
        mend=_CLOSE_WELL,
    ),
    "answers": Explanation(
        what="An idle connection, which we end with close_notify. Does the server answer with its own?",
        why="A client that waits for the answer waits for its deadline; one that gets a bare FIN cannot tell it from a "
        "cut. In TLS 1.2 the answer is a duty; in TLS 1.3 each side ends its own direction.",
        rule="RFC 5246 §7.2.1; RFC 8446 §6.1",
        mend={
            "nginx": "It answers with a bare FIN, and has no setting for it; nothing is lost by that.",
            "redis": "The same.",
            "postfix": "The same.",
            "any": "Answer close_notify with close_notify before you close.",
        },
    ),
    "half-close": Explanation(
        what="A request and our close_notify in one flight, three times. Does the whole answer come nevertheless? What "
        "came in reply-end is what has to come.",
        why="A client that has said all may end its direction: in TLS 1.3 that is no hang-up. Command lines at the end "
        "of their input do it, and proxies that pass on a FIN.",
        rule="RFC 8446 §6.1. RFC 5246 §7.2.1 (TLS 1.2) lets a server drop what it had to send, which is a NOTE.",
        mend={
            "nginx": "Nothing to do: the answer comes.",
            "hitch": "It passes the end on as a hang-up, and has no setting for it.",
            "uvicorn": "asyncio takes close_notify for a hang-up, and so does uvicorn itself; there is no setting.",
            "hypercorn": "The same.",
            "Node": "Nothing to do in http; in tls.createServer, allowHalfOpen: true, and end the socket yourself.",
            "Go": "Nothing to do: reading gives io.EOF, and writing goes on.",
            "any": "Do not cancel the answer when a read returns the end of the stream.",
        },
    ),
    "tcp-after": Explanation(
        what="We say nothing after the server's close_notify. Does its FIN follow, or does it hold TCP open?",
        why="Two sides that wait for each other keep a connection until a timer ends it.",
        rule="none: it is allowed",
        mend={
            "stunnel": "TIMEOUTclose = 1 limits the wait for the client's close_notify to a second.",
            "uvicorn": "asyncio waits for 30 s (ssl_shutdown_timeout), which uvicorn does not set.",
            "any": "Send FIN right after close_notify, and go on reading for a moment.",
        },
    ),
    "bare-fin": Explanation(
        what="An idle connection, which we end with FIN alone, as a client does that crashed. Does the server let go?",
        why="A server that does not keeps a descriptor for each client that was cut off.",
        rule="none: it is allowed",
        mend={
            "nginx": "keepalive_timeout limits it in any case.",
            "HAProxy": "timeout client-fin limits it.",
            "any": "Treat the end of the transport as the end of the connection.",
        },
    ),
    "refusal": Explanation(
        what="A malformed request. Does the refusal end with close_notify?",
        why="The paths of errors are the least tested: many close the socket without a word.",
        rule="RFC 8446 §6.1, RFC 9112 §9.8",
        mend={
            "Node": "The default for 'clientError' is a bare FIN after 400: set a handler that calls socket.end().",
            "any": "End good and bad requests in one way.",
        },
    ),
    "idle": Explanation(
        what="A connection that stays idle after an answer, for --idle SECONDS. Who ends it, and how?",
        why="A client that sends its next request at that moment needs to know whether it was received.",
        rule="RFC 8446 §6.1",
        mend={
            "nginx": "keepalive_timeout sets the time.",
            "Node": "server.keepAliveTimeout sets the time; the end is a bare FIN, and there is no setting for that.",
            "any": "Send close_notify at a timeout, too.",
        },
    ),
    "in-flight": Explanation(
        what="Our close_notify while a large answer (--large PATH) is on its way. Does the rest come?",
        why="Like half-close, but the part that came looks whole: close_notify follows it.",
        rule="RFC 8446 §6.1",
        mend={
            "stunnel": "It stops, and answers close_notify at once; no setting is known that helps.",
            "hitch": "The same.",
            "any": "Finish the answer before you answer close_notify.",
        },
    ),
    "unread-input": Explanation(
        what="64 KiB of requests that the server does not read, while it ends a large answer (Connection: close).",
        why="A socket that is closed with unread input sends RST, and RST destroys what the client has not read yet.",
        rule="RFC 9112 §9.6: half-close, read on for a while, then close",
        mend={
            "nginx": "lingering_close on, the default, is right.",
            "Go": "net/http waits for half a second after its FIN, and reads no more: there is no setting.",
            "Node": "Read a request to its end before you end the connection.",
            "any": "Send FIN, then read and discard up to a limit, then close. bowout.serve does it.",
        },
    ),
    "bad-record": Explanation(
        what="A record that cannot be decrypted (--intrusive). Does bad_record_mac answer it?",
        why="Without the alert the other side sees a cut, and cannot tell an attack from a lost network.",
        rule="RFC 8446 §5.2, RFC 5246 §7.2.2",
        mend={
            "uvicorn": "asyncio closes before OpenSSL's alert has left; there is no setting.",
            "hypercorn": "The same.",
            "any": "Send what the TLS library has queued before you close after an error.",
        },
    ),
    "fatal-alert": Explanation(
        what="Our fatal alert (--intrusive). Does the server close at once, and send nothing more?",
        why="After a fatal alert the connection is over; data and close_notify after it go nowhere.",
        rule="RFC 8446 §6.2",
        mend={
            "Go": "net/http answers with 400 and close_notify, and has no setting for it.",
            "Caddy": "The same: it is built on net/http.",
            "any": "Close the descriptor when a read reports an alert.",
        },
    ),
    "close-in-handshake": Explanation(
        what="ClientHello, then close_notify in plain text (--intrusive). Does the server let go?",
        why="A client may give up at any time; a server that waits for the rest keeps a descriptor until its timer.",
        rule="RFC 8446 §6.1",
        mend={"any": "Limit the time of a handshake; bowout.serve has handshake_timeout for it."},
    ),
}
