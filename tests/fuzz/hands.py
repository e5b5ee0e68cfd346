"""An engine and its OpenSSL peer, up to the end of their handshake; then the keys of both directions."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest import mock

import trustme

from bowout._core import hook
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._scripted.records import Direction, Suite, tls12, tls13
from bowout.ending import Role
from helpers.engines import NAME, VERSIONS, Clock, take

if TYPE_CHECKING:
    from bowout.ending import TruncationPolicy

_RANDOM: Final = slice(11, 43)  # in a flight that begins with a hello


class Contexts:
    """The contexts of every kind of connection, made once: certificates are dear. Close it to remove the key log."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self._certificate = self._ca.issue_cert(NAME)
        self._folder = tempfile.TemporaryDirectory()
        self.keylog = Path(self._folder.name) / "keys"
        self._made = {
            (role, version, ours, hooked): self._make(role, version, ours=ours, hooked=hooked)
            for role in Role
            for version in VERSIONS
            for ours, hooked in ((True, True), (True, False), (False, False))
        }

    def context(self, role: Role, version: str, *, ours: bool, hooked: bool) -> ssl.SSLContext:
        """The context of an engine of ours, with or without the hook, or of its peer."""
        return self._made[role, version, ours, hooked]

    def _make(self, role: Role, version: str, *, ours: bool, hooked: bool) -> ssl.SSLContext:
        server = role is Role.SERVER
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = VERSIONS[version]
        if server:
            self._certificate.configure_cert(context)
            context.num_tickets = 0  # Every record after the handshake is then the program's.
        else:
            self._ca.configure_trust(context)
        context.options |= ssl.OP_NO_TICKET
        if ours:
            with contextlib.nullcontext() if hooked else mock.patch.object(hook, "watch"):
                hook.prepare(context)
        else:
            context.keylog_filename = str(self.keylog)
        return context

    def close(self) -> None:
        """Forget the contexts, and remove the key log."""
        self._made.clear()
        self._folder.cleanup()


class Hands:
    """A handshake between our engine and a peer.

    Attributes:
        us: the engine.
        pen: how the peer protects what it sends; None until both sides have shaken hands.
        lens: how we protect what we send.
    """

    def __init__(
        self, contexts: Contexts, version: str, role: Role, truncation: TruncationPolicy, *, hooked: bool
    ) -> None:
        self._version = version
        self._keylog = contexts.keylog
        client = role is Role.CLIENT
        self.us = Engine(
            contexts.context(role, version, ours=True, hooked=hooked),
            role=role,
            server_hostname=NAME if client else None,
            timeline=Timeline(Clock()),
            truncation=truncation,
        )
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        other = Role.SERVER if client else Role.CLIENT
        self._peer = contexts.context(other, version, ours=False, hooked=False).wrap_bio(
            self._in, self._out, server_side=client, server_hostname=None if client else NAME
        )
        self._other = other
        self._peer_done = False
        self._first = {role: b"", other: b""}
        self.pen: Direction | None = None
        self.lens: Direction | None = None
        if self._keylog.exists():
            os.truncate(self._keylog, 0)

    def peer_turn(self) -> bytes:
        """Give the peer what we have for it; what it answers."""
        ours = take(self.us)
        self._in.write(ours)
        if not self._peer_done:
            try:
                self._peer.do_handshake()
                self._peer_done = True
            except ssl.SSLError:
                pass  # It wants more, or somebody has spoilt the handshake: the engine is what is tested.
        theirs = self._out.read()
        self._first[self.us.role] = self._first[self.us.role] or ours
        self._first[self._other] = self._first[self._other] or theirs
        if self.us.handshake_done and self._peer_done and self.pen is None:
            self._read_keys()
        return theirs

    def _read_keys(self) -> None:
        secrets = {}
        for line in self._keylog.read_text().splitlines():
            if not line.startswith("#"):
                label, _, secret = line.split()
                secrets[label] = bytes.fromhex(secret)
        cipher = self._peer.cipher()
        assert cipher is not None, "it has shaken hands"
        suite = Suite.of(cipher[0])
        if self._version == "1.3":
            client, server = (tls13(suite, secrets[f"{role.name}_TRAFFIC_SECRET_0"]) for role in Role)
        else:
            randoms = (self._first[role][_RANDOM] for role in Role)
            client, server = tls12(suite, secrets["CLIENT_RANDOM"], *randoms)
        self.pen, self.lens = (client, server) if self._other is Role.CLIENT else (server, client)
