"""What the users of libraries that block do: one function for each, registered with what a server says to it."""

from __future__ import annotations

import contextlib
import ftplib
import http.client
import imaplib
import io
import poplib
import smtplib
import socket
import ssl
import urllib.request
from typing import Any

from reach import blocking_dialogues, dialogues
from reach.registry import Talk, client
from reach.ways import BLOCKING_WAYS, DEADLINE

_HTTP = (dialogues.HTTP_TO_THE_END, dialogues.HTTP_BY_LENGTH, dialogues.HTTP_IN_CHUNKS)


def context_of(talk: Talk, **policy: Any) -> ssl.SSLContext:
    """The context that the library is given; one whose sockets are ours, in the ways of bowout."""
    if not talk.ours:
        return talk.context
    import bowout.blocking  # noqa: PLC0415 for these ways only

    return bowout.blocking.prepare_context(talk.context, **policy)


# -- HTTP -------------------------------------------------------------------------------------------------------------


@client("http.client", *_HTTP, ways=BLOCKING_WAYS, distributions=())
def http_client_post(talk: Talk) -> bytes:
    connection = http.client.HTTPSConnection(talk.host, talk.port, context=context_of(talk), timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("POST", "/", body=talk.upload)
        answer = connection.getresponse()
        talk.got_head()
        return answer.read()


@client("urllib.request", *_HTTP, ways=BLOCKING_WAYS, distributions=())
def urllib_post(talk: Talk) -> bytes:
    request = urllib.request.Request(f"https://{talk.host}:{talk.port}/", data=talk.upload, method="POST")
    with urllib.request.urlopen(request, context=context_of(talk), timeout=DEADLINE) as answer:
        talk.got_head()
        body: bytes = answer.read()
        return body


@client("urllib3", *_HTTP, ways=BLOCKING_WAYS, distributions=("urllib3",))
def urllib3_post(talk: Talk) -> bytes:
    import urllib3  # noqa: PLC0415 only the scenarios of a library import it

    with urllib3.PoolManager(ssl_context=context_of(talk), retries=False, timeout=DEADLINE) as pool:
        answer = pool.request("POST", f"https://{talk.host}:{talk.port}/", body=talk.upload, preload_content=False)
        talk.got_head()
        return answer.data


@client("requests", *_HTTP, ways=BLOCKING_WAYS, distributions=("requests",))
def requests_post(talk: Talk) -> bytes:
    import requests  # noqa: PLC0415

    with requests.Session() as session:
        if talk.ours:
            import bowout.blocking  # noqa: PLC0415

            session.mount("https://", bowout.blocking.HTTPAdapter())
        url = f"https://{talk.host}:{talk.port}/"
        with session.post(url, data=talk.upload, verify=talk.ca_file, timeout=DEADLINE, stream=True) as answer:
            talk.got_head()
            return answer.content


@client("httpx (blocking)", *_HTTP, ways=BLOCKING_WAYS, distributions=("httpx",))
def httpx_post(talk: Talk) -> bytes:
    import httpx  # noqa: PLC0415

    with (
        httpx.Client(verify=context_of(talk), timeout=DEADLINE) as session,
        session.stream("POST", f"https://{talk.host}:{talk.port}/", content=talk.upload) as answer,
    ):
        talk.got_head()
        return answer.read()


# -- WebSocket: a thread of the library reads -------------------------------------------------------------------------


@client("websockets (threads)", dialogues.WEBSOCKET, ways=BLOCKING_WAYS, distributions=("websockets",))
def websockets_in_threads(talk: Talk) -> bytes:
    from websockets.sync.client import connect  # noqa: PLC0415

    with connect(f"wss://{talk.host}:{talk.port}/", ssl=context_of(talk), max_size=None) as ws:
        talk.got_head()
        if talk.upload:
            ws.send(talk.upload)
        message: str | bytes = ws.recv(timeout=DEADLINE)
        return message.encode() if isinstance(message, str) else message


# -- mail -------------------------------------------------------------------------------------------------------------


@client("smtplib", dialogues.SMTPS, ways=BLOCKING_WAYS, distributions=())
def smtplib_over_tls(talk: Talk) -> bytes:
    return _over_smtp(smtplib.SMTP_SSL(talk.host, talk.port, context=context_of(talk), timeout=DEADLINE), talk)


@client("smtplib", dialogues.STARTTLS, ways=BLOCKING_WAYS, distributions=())
def smtplib_starttls(talk: Talk) -> bytes:
    smtp = smtplib.SMTP(talk.host, talk.port, timeout=DEADLINE)
    with _closed_by_error(smtp.close):
        smtp.starttls(context=context_of(talk))
    return _over_smtp(smtp, talk)


def _over_smtp(smtp: smtplib.SMTP, talk: Talk) -> bytes:
    with smtp:
        if talk.upload:
            smtp.sendmail("a@peer.test", ["b@peer.test"], talk.upload)
        return smtp.docmd("HELP")[1]


@client("imaplib", blocking_dialogues.IMAPS, ways=BLOCKING_WAYS, distributions=())
def imaplib_over_tls(talk: Talk) -> bytes:
    return _over_imap(imaplib.IMAP4_SSL(talk.host, talk.port, ssl_context=context_of(talk), timeout=DEADLINE), talk)


@client("imaplib", blocking_dialogues.IMAP_STARTTLS, ways=BLOCKING_WAYS, distributions=())
def imaplib_starttls(talk: Talk) -> bytes:
    imap = imaplib.IMAP4(talk.host, talk.port, timeout=DEADLINE)
    with _closed_by_error(imap.shutdown):
        imap.starttls(ssl_context=context_of(talk))
    return _over_imap(imap, talk)


def _over_imap(imap: imaplib.IMAP4, talk: Talk) -> bytes:
    with _closed_by_error(imap.shutdown), imap:
        imap.login("user", "password")
        imap.select()
        if talk.upload:
            imap.append("INBOX", "", "", talk.upload)
        _, parts = imap.fetch("1", "(RFC822)")
        mail = parts[0]
        assert isinstance(mail, tuple)
        return mail[1]


@client("poplib", blocking_dialogues.POP3S, ways=BLOCKING_WAYS, distributions=())
def poplib_over_tls(talk: Talk) -> bytes:
    opened: list[socket.socket] = []

    class KeptPOP3(poplib.POP3_SSL):
        """Where there is no greeting, poplib raises, and leaves its socket open."""

        def _create_socket(self, timeout: float) -> socket.socket:
            opened.append(super()._create_socket(timeout))  # type: ignore[misc]
            return opened[0]

    with _closed_by_error(lambda: opened[0].close() if opened else None):
        pop = KeptPOP3(talk.host, talk.port, context=context_of(talk), timeout=DEADLINE)
    return _over_pop3(pop)


@client("poplib", blocking_dialogues.POP3_STLS, ways=BLOCKING_WAYS, distributions=())
def poplib_stls(talk: Talk) -> bytes:
    pop = poplib.POP3(talk.host, talk.port, timeout=DEADLINE)
    with _closed_by_error(pop.close):
        pop.stls(context_of(talk))
    return _over_pop3(pop)


def _over_pop3(pop: poplib.POP3) -> bytes:
    with _closed_by_error(pop.close):
        pop.user("user")
        pop.pass_("password")
        _, lines, _ = pop.retr(1)
        pop.quit()
        return b"\n".join(lines)


# -- files ------------------------------------------------------------------------------------------------------------


@client("ftplib", blocking_dialogues.FTP_DOWNLOAD, ways=BLOCKING_WAYS, distributions=())
def ftplib_download(talk: Talk) -> bytes:
    with _ftp(talk) as ftp:
        file = io.BytesIO()
        ftp.retrbinary("RETR file", file.write)
        return file.getvalue()


@client("ftplib", blocking_dialogues.FTP_UPLOAD, ways=BLOCKING_WAYS, distributions=())
def ftplib_upload(talk: Talk) -> bytes:
    with _ftp(talk) as ftp:
        answer: str = ftp.storbinary("STOR file", io.BytesIO(talk.upload))
        return answer.encode()


@contextlib.contextmanager
def _ftp(talk: Talk) -> Any:
    with ftplib.FTP_TLS(context=context_of(talk), timeout=DEADLINE) as ftp:
        ftp.connect(talk.host, talk.port)
        ftp.auth()
        ftp.prot_p()
        ftp.login("user", "password")
        ftp.sendcmd(f"SITE {talk.port}")
        yield ftp


@contextlib.contextmanager
def _closed_by_error(close: Any) -> Any:
    """Close what a library leaves open when it raises."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            close()
        raise
