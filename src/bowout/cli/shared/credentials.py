"""A key and a certificate for one run: for the demo, and for a server without a --cert."""

from __future__ import annotations

import os
import ssl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bowout.cli.shared import tls_options

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key and a certificate in a temporary directory, and the authority that issued the certificate."""

    key: Path
    certificate: Path
    authority: bytes

    @classmethod
    @contextmanager
    def made(cls, *names: str) -> Iterator[Credentials]:
        """Make them for one run; their files are removed at the end of the block.

        Args:
            names: the server's names, for its certificate.

        Raises:
            ModuleNotFoundError: trustme is not installed.
        """
        import trustme  # noqa: PLC0415  (slow to import, and nothing else needs it)

        authority = trustme.CA()
        issued = authority.issue_cert(*names)
        with tempfile.TemporaryDirectory(prefix="bowout-") as name:
            directory = Path(name)
            yield cls(
                key=_written(directory / "key.pem", issued.private_key_pem.bytes()),
                certificate=_written(
                    directory / "certificate.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems)
                ),
                authority=authority.cert_pem.bytes(),
            )

    def server_context(self) -> ssl.SSLContext:
        """Return a context for the server, which has the key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self, version: str | None) -> ssl.SSLContext:
        """Return a context for a client that verifies the certificate, and speaks only `version` if there is one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority.decode("ascii"))
        tls_options.pin(context, version)
        return context


def _written(path: Path, data: bytes) -> Path:
    """Write a file that only this user can read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path
