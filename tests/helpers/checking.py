"""Single probes of a check, with short waits, against a server of a test."""

from __future__ import annotations

import ssl
from typing import Any, Final

from bowout import _backends
from bowout._client import planned
from bowout.check import Finding, Report
from bowout.check._check import Checking
from bowout.check._intrusive import INTRUSIVE
from bowout.check._judge import finding
from bowout.check._opener import Opener, Pace
from bowout.check._probes import LARGE_ANSWER, POLITE, Check, idle, reply_end
from bowout.check._protocols import ProtocolName, conversation

#: Waits of a probe that a silent server makes it sit out: how long they are is no fact about the server.
BRISK: Final = Pace(opening=60.0, connection=0.4, gap=0.0, settle=0.05, after=0.3, close=0.3)
#: Waits that a server which acts in time never fills, however busy the machine.
PATIENT: Final = Pace(
    total=120.0, opening=60.0, connection=60.0, gap=0.0, settle=0.05, after=60.0, close=60.0, pause=0.05, large=120.0
)

_ALL: Final = {**POLITE, **LARGE_ANSWER, **INTRUSIVE, "idle": idle}


def prepared(
    port: int,
    context: ssl.SSLContext,
    *,
    protocol: ProtocolName = "raw",
    starttls: Any = None,
    pace: Pace = BRISK,
    send: bytes | None = None,
    expect: bytes | None = None,
    host: str = "localhost",
    **more: Any,
) -> Check:
    """What a probe needs, for a server on the loopback."""
    plan, options = planned(
        host, port, over=None, starttls=starttls, starttls_name=None, local_address=None, happy_eyeballs_delay=0.25,
        connect_timeout=3.0, context=context, server_hostname=None, alpn=None,
    )  # fmt: skip
    talk = conversation(
        protocol, host=host, port=port, starttls=starttls, agent="bowout-check", send=send, expect=expect
    )
    return Check(Opener(_backends.current(), plan, options, connect=None, pace=pace), talk, **more)


async def full(check: Check, *, intrusive: bool = False) -> Report:
    """Make every probe, as `bowout.check.check` does."""
    checking = Checking(_backends.current(), check, None)
    return await checking.report(endpoint="localhost", starttls=None, intrusive=intrusive)


async def probe(name: str, check: Check) -> Finding:
    """Make one probe; a half-close first asks for the answer to compare with."""
    try:
        if name == "half-close" and check.baseline is None:
            await reply_end(check)
        return finding(name, await _ALL[name](check), 0.0)
    finally:
        check.opener.abandon()
