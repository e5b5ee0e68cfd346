"""Peers that end TLS connections in every wrong way, for tests of a client or a server.

    from bowout.testing import Peer

    with Peer("fin_inside_record") as peer:
        response = my_client(f"https://localhost:{peer.port}/", ca=peer.ca_file)
    print(peer.report)

A `Peer` plays an entry of the catalogue `ENDINGS`, or a script of your own, which is a function that takes an `Act`.
It needs the packages of the extra: ``pip install 'bowout[testing]'``.
"""

try:
    import cryptography  # noqa: F401  (imported here, so that its absence names the extra)
    import trustme  # noqa: F401
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"bowout.testing needs the package {_error.name}: pip install 'bowout[testing]'", name=_error.name
    ) from _error

from bowout._scripted.connection import HandshakeStage
from bowout.testing._act import Act
from bowout.testing._catalogue import Entry, Expect, Outcome, PeerRole, Script, You
from bowout.testing._define import GREETING, LATE
from bowout.testing._endings import ENDINGS
from bowout.testing._identity import TLSVersion, client_context, default_ca, server_context
from bowout.testing._opening import Opening
from bowout.testing._peer import Peer
from bowout.testing._receiving import ExpectationFailed
from bowout.testing._report import PeerReport

__all__ = [
    "ENDINGS",
    "GREETING",
    "LATE",
    "Act",
    "Entry",
    "Expect",
    "ExpectationFailed",
    "HandshakeStage",
    "Opening",
    "Outcome",
    "Peer",
    "PeerReport",
    "PeerRole",
    "Script",
    "TLSVersion",
    "You",
    "client_context",
    "default_ca",
    "server_context",
]
