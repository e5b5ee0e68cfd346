"""The standard library's clients with the real servers that they are for: vsftpd and Dovecot, in Debian's packages."""

from __future__ import annotations

import contextlib
import ftplib
import imaplib
import io
import poplib
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

import bowout.blocking
from bowout import Ending, How
from helpers.starttls_servers import Home, dovecot, vsftpd
from helpers.wire import VERSIONS, Version, authority, client_context
from reach.ways import DEADLINE

CONTENT: Final = b"all that there is to say\n" * 120_000

both_versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def ftp_port() -> Iterator[int]:
    with Home.create(authority()) as home, vsftpd(home) as ports:
        (home.path / "files" / "file").write_bytes(CONTENT)
        yield ports["ftp"]


@pytest.fixture(scope="module")
def mail_ports() -> Iterator[dict[str, int]]:
    with Home.create(authority()) as home, dovecot(home) as ports:
        yield ports


def prepared_context(version: Version, endings: list[Ending], **policy: Any) -> ssl.SSLContext:
    """A context whose sockets are ours; each ending is added to `endings`."""
    return bowout.blocking.prepare_context(client_context(version), on_ending=endings.append, **policy)


# -- files: vsftpd wants each data connection to resume the session of its control connection -------------------------


def download(port: int, context: ssl.SSLContext, secure: Callable[[ftplib.FTP_TLS], object]) -> bytes:
    """Log in, let `secure` choose the protection of data, and fetch the file."""
    file = io.BytesIO()
    with ftplib.FTP_TLS(context=context, timeout=DEADLINE) as ftp:
        ftp.connect("localhost", port)
        ftp.login()
        secure(ftp)
        ftp.retrbinary("RETR file", file.write)
    return file.getvalue()


@both_versions
def test_files_come_over_connections_that_resume_the_session(ftp_port: int, version: Version) -> None:
    endings: list[Ending] = []
    context = prepared_context(version, endings, resume=True)
    assert download(ftp_port, context, ftplib.FTP_TLS.prot_p) == CONTENT
    data, control = endings
    # vsftpd answers the close_notify of a data connection, and that of a control connection with a FIN alone.
    assert (data.how, control.how) == (How.CLEAN, How.UNANSWERED)


@both_versions
@pytest.mark.parametrize("ours", [False, True])
def test_without_it_the_server_refuses_them(ftp_port: int, version: Version, *, ours: bool) -> None:
    """If it did not, the test above would prove nothing."""
    context = prepared_context(version, []) if ours else client_context(version)
    with pytest.raises((ftplib.Error, OSError)):
        download(ftp_port, context, ftplib.FTP_TLS.prot_p)


# -- mail -------------------------------------------------------------------------------------------------------------


@both_versions
def test_imap_with_starttls_ends_clean(mail_ports: dict[str, int], version: Version) -> None:
    if "imap" not in mail_ports:
        pytest.skip("dovecot-imapd is not installed")
    endings: list[Ending] = []
    with imaplib.IMAP4("localhost", mail_ports["imap"], timeout=DEADLINE) as imap:
        imap.starttls(ssl_context=prepared_context(version, endings))
        assert imap.noop()[0] == "OK"
    assert [ending.how for ending in endings] == [How.CLEAN]


@both_versions
def test_pop3_with_stls_ends_clean(mail_ports: dict[str, int], version: Version) -> None:
    if "pop3" not in mail_ports:
        pytest.skip("dovecot-pop3d is not installed")
    endings: list[Ending] = []
    pop = poplib.POP3("localhost", mail_ports["pop3"], timeout=DEADLINE)
    with contextlib.closing(pop):
        pop.stls(prepared_context(version, endings))
        assert pop.capa()
        pop.quit()
    assert [ending.how for ending in endings] == [How.CLEAN]
