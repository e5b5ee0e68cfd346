"""The certificates of a server's context: the check that there is one, and their replacement during use."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from bowout._core.openssl_errors import words_of
from bowout._server.key_kinds import EVERY_SIGNATURE, KeyKind, has_unknown_kind, key_kinds, refusal
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger("bowout.server")

Password = str | bytes | bytearray

#: Maximum size of a certificate file that is read, in bytes: a long chain has 20,000.
_LARGEST: Final = 1 << 20
#: OpenSSL's reasons if it has no certificate at all: it then does not offer TLS 1.3.
_NO_CERTIFICATE: Final = frozenset({"NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL"})
#: The same if something else may replace a certificate: a function for SNI, a pre-shared key.
_NONE_FITS: Final = _NO_CERTIFICATE | {"NO_SUITABLE_SIGNATURE_ALGORITHM"}
#: OpenSSL's reasons for a key that belongs to another certificate, of the same kind or not.
_NOT_ITS_KEY: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
#: OpenSSL's X509_V_ERR_… codes, in words.
_VALIDITY: Final = {9: "is not valid yet", 10: "has expired"}


# -- whether there is one ----------------------------------------------------------------------------------------------


def check_has_certificate(context: ssl.SSLContext, *, others: bool) -> None:
    """Refuse a server's context without a certificate; warn if some clients need none.

    Args:
        context: the context, which is tested with a ClientHello.
        others: whether other contexts are chosen by the name that a client asks for.

    Raises:
        ValueError: no client could connect.
    """
    with _without_sni_callback(context) as had_one:
        reason = refusal(context, EVERY_SIGNATURE)
    if reason not in _NONE_FITS:
        return
    by_psk = reason not in _NO_CERTIFICATE or any("PSK" in cipher["name"] for cipher in context.get_ciphers())
    if not (others or had_one or by_psk):
        raise ValueError(
            "no client could connect: the context has no certificate, or none that its cipher suites can use; "
            "call its load_cert_chain() first"
        )
    _log.warning(
        "the context has no certificate: clients that ask for no name, or for an unknown one, "
        "and have no pre-shared key are refused; load_cert_chain() gives it one"
    )


@contextlib.contextmanager
def _without_sni_callback(context: ssl.SSLContext) -> Iterator[bool]:
    """Remove the callback during the block: it need not expect calls from us. Yield whether there is one."""
    callback = context.sni_callback
    if callback is None:
        yield False
        return
    context.sni_callback = None
    try:
        yield True
    finally:
        context.sni_callback = callback


# -- another one -------------------------------------------------------------------------------------------------------


def reload_certificate(
    context: ssl.SSLContext,
    certfile: str | PurePath,
    keyfile: str | PurePath | None,
    password: Password | Callable[[], Password] | None,
) -> None:
    """Give `context` another certificate; `bowout.Server.reload_certificate` documents it.

    The files are read once: what was tried is loaded, even if the files change meanwhile.
    """
    pair = _Pair.read(certfile, keyfile, password)
    level = context.security_level
    with pair.loadable() as load, _without_sni_callback(context):
        trial = _blank_context(level)
        load(trial)
        _warn_of_validity(trial, pair)
        new, old = key_kinds(trial), key_kinds(context)
        if new and not any(kind in old for kind in new):
            if has_unknown_kind(context):
                raise MisuseError(
                    f"the context has a certificate with an unknown kind of key, and would keep using "
                    f"it beside the new one ({new[0].name}): serve with a new context instead"
                )
            load(context)
            for kind in old:
                _bury(context, kind, level)
        load(context)


def _blank_context(level: int) -> ssl.SSLContext:
    """Make a context that accepts what a context of this security level accepts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(f"DEFAULT:@SECLEVEL={level}")
    return context


def _bury(context: ssl.SSLContext, kind: KeyKind, level: int) -> None:
    """Replace the certificate of this kind in `context` by one without a key."""
    with readable_by_us(kind.made_up_certificate(level)) as path, contextlib.suppress(ssl.SSLError):
        context.load_cert_chain(path)  # The certificate is loaded; then no key is found in the file.


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate, perhaps with its chain, and its key, as read from the files."""

    certfile: str | PurePath
    keyfile: str | PurePath
    certificate: bytes
    key: bytes
    password: Password

    @classmethod
    def read(
        cls,
        certfile: str | PurePath,
        keyfile: str | PurePath | None,
        password: Password | Callable[[], Password] | None,
    ) -> _Pair:
        if callable(password):
            password = password()
        # Without a password OpenSSL would ask for one on the terminal.
        password = "" if password is None else password
        if not isinstance(password, str | bytes | bytearray):
            raise TypeError(
                f"the password must be str or bytes, or a function without parameters, not {type(password).__name__}"
            )
        certificate = _read("certfile", certfile)
        key = certificate if keyfile is None else _read("keyfile", keyfile)
        return cls(certfile, certfile if keyfile is None else keyfile, certificate, key, password)

    @contextlib.contextmanager
    def loadable(self) -> Iterator[Callable[[ssl.SSLContext], None]]:
        """Yield a function that loads the pair into a context."""
        with readable_by_us(self.certificate) as certificate, readable_by_us(self.key) as key:

            def load(context: ssl.SSLContext) -> None:
                try:
                    context.load_cert_chain(certificate, key, self.password)
                except ssl.SSLError as error:
                    raise self._refused(error) from error

            yield load

    def _refused(self, error: ssl.SSLError) -> ssl.SSLError:
        refused = ssl.SSLError(error.errno or 1, f"{self._why(error)}; the certificate in use stays")
        refused.reason, refused.library = error.reason, error.library
        return refused

    def _why(self, error: ssl.SSLError) -> str:
        if b"-----BEGIN " not in self.certificate or b" CERTIFICATE-----" not in self.certificate:
            return f"there is no certificate in PEM in {str(self.certfile)!r}"
        if b"PRIVATE KEY-----" not in self.key:
            return f"there is no private key in PEM in {str(self.keyfile)!r}"
        if error.reason in _NOT_ITS_KEY:
            return f"the key in {str(self.keyfile)!r} does not belong to the certificate in {str(self.certfile)!r}"
        if b"ENCRYPTED" in self.key:
            what = "this password does not open it" if self.password else "give its password"
            return f"the key in {str(self.keyfile)!r} is encrypted: {what}"
        return f"{str(self.certfile)!r} and its key cannot be used: {words_of(error)}"


def _read(name: str, path: str | PurePath) -> bytes:
    if not isinstance(path, str | bytes | PurePath):
        raise TypeError(f"{name} must be a path, not {type(path).__name__}")
    if not path:
        raise ValueError(f"{name} is empty")
    with open(path, "rb") as file:  # noqa: PTH123  (a path may be bytes, too)
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"{name} is longer than {_LARGEST >> 10} KiB: that is not a certificate")
    return data


@contextlib.contextmanager
def readable_by_us(data: bytes) -> Iterator[str]:
    """Yield a path at which `data` can be read during the block, by this user alone.

    `ssl` loads a key only from a path. If the system has files in memory, no key is written to a disk.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("bowout")
        with open(descriptor, "wb") as file:  # noqa: PTH123  (it is a descriptor)
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "certificate.pem"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(data)
        yield str(path)


# -- whether clients will take it --------------------------------------------------------------------------------------


def _warn_of_validity(trial: ssl.SSLContext, pair: _Pair) -> None:
    """Log a warning if the certificate is not valid now: clients will refuse it."""
    code = _verify_code(trial, pair.certificate)
    if code in _VALIDITY:
        _log.warning("the certificate in %r %s: clients will refuse it", str(pair.certfile), _VALIDITY[code])


def _verify_code(trial: ssl.SSLContext, certificate: bytes) -> int:
    """Return OpenSSL's verdict on the dates of a certificate, with trust in it assumed; 0 if it has no objection."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=certificate.decode("ascii", "replace"))
    except ssl.SSLError:
        return 0
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server)
    there = trial.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(3):
            for side in (here, there):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return int(error.verify_code)
    except ssl.SSLError:
        return 0
    return 0
