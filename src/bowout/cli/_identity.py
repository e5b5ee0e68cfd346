"""Who the server is, and whom it lets in: its context, with a certificate for one run where none is given."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bowout.cli import _tls
from bowout.cli._demo_server import Credentials
from bowout.cli._usage import UsageError

_EVERYWHERE: Final = ("*", "0.0.0.0", "::")  # noqa: S104  (compared with, not listened on)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the options of TLS say."""

    cert: str | None
    key: str | None
    ca_out: str | None
    client_ca: str | None
    version: str | None

    def context(self, host: str) -> ssl.SSLContext:
        """Make the context of a server that listens on `host`.

        Raises:
            UsageError: a file is missing or is not what it should be, or options contradict each other.
        """
        _tls.check_key_has_cert(self.cert, self.key)
        if self.cert is not None and self.ca_out is not None:
            raise UsageError(
                "--ca-out is for the throw-away certificate, and --cert is another", "leave one of them out"
            )
        _tls.check_key_log()
        context = self._trusting()
        _tls.pin(context, self.version)
        if self.cert is not None:
            _tls.identify(context, self.cert, self.key)
        else:
            self._make_certificate(context, host)
        return context

    def advice(self) -> str:
        """The options of ``bowout connect`` that make it trust us."""
        if self.ca_out is not None:
            return f"--cafile {self.ca_out}"
        return "--insecure" if not self.cert else ""

    def _trusting(self) -> ssl.SSLContext:
        if self.client_ca is None:
            return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context = _tls.trusting("--client-ca", self.client_ca, ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _make_certificate(self, context: ssl.SSLContext, host: str) -> None:
        names = ["localhost", "127.0.0.1", "::1"]
        more = socket.gethostname() if host in _EVERYWHERE else host.partition("%")[0]
        try:
            with Credentials.made(*names, *([more] if more not in names else [])) as credentials:
                context.load_cert_chain(credentials.certificate, credentials.key)
        except ModuleNotFoundError as error:
            hint = "pip install 'bowout[cli]', or give --cert FILE"
            raise UsageError(f"{error.name} is not installed: certificates are made with it", hint) from error
        except ValueError as error:
            raise UsageError(f"'{more}' cannot be in a certificate", "use a host's name or its address") from error
        if self.ca_out is not None:
            try:
                Path(self.ca_out).write_bytes(credentials.authority)
            except OSError as error:
                raise UsageError(f"--ca-out: cannot write '{self.ca_out}': {error.strerror}") from error
