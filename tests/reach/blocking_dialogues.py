"""What servers of mail and of files say to libraries that block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bowout.testing import Act, Opening
from reach.dialogues import Dialogue, Reply, answer_close

#: Seconds for the other connection of the same client: only the end of a hang.
_PATIENCE: Final = 30.0

# -- IMAP -------------------------------------------------------------------------------------------------------------


def _imap(greeting: bytes) -> Callable[[Act, Reply], None]:
    def converse(act: Act, reply: Reply) -> None:
        if greeting:
            act.send(greeting)
        command = b""
        while command != b"LOGOUT":
            tag, command, *_ = act.read_until(b"\r\n").split()
            if command == b"CAPABILITY":
                act.send(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n")
            elif command == b"SELECT":
                act.send(b"* 1 EXISTS\r\n")
            elif command == b"APPEND":
                act.send(b"+ go on\r\n")
                act.read_exactly(reply.upload + 2)
            elif command == b"FETCH":
                before = b"* 1 FETCH (RFC822 {%d}\r\n" % len(reply.message)
                if not reply.send(act, before, reply.message + b")\r\n"):
                    return
            elif command == b"LOGOUT":
                act.send(b"* BYE\r\n")
            act.send(tag + b" OK done\r\n")
        answer_close(act)

    return converse


def imap_opening(opening: Opening) -> None:
    """The server's part of STARTTLS (RFC 9051 section 6.2.1)."""
    opening.send(b"* OK ready\r\n")
    tag = opening.read_until(b"\r\n").split()[0]
    opening.send(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done\r\n")
    tag = opening.read_until(b"\r\n").split()[0]
    opening.send(tag + b" OK begin\r\n")


IMAPS: Final = Dialogue("IMAP over TLS, mail with its length", _imap(b"* OK ready\r\n"), greets=True, uploads="mail")
IMAP_STARTTLS: Final = Dialogue("IMAP with STARTTLS, mail with its length", _imap(b""), imap_opening, uploads="mail")


# -- POP3 -------------------------------------------------------------------------------------------------------------


def _pop3(greeting: bytes) -> Callable[[Act, Reply], None]:
    def converse(act: Act, reply: Reply) -> None:
        if greeting:
            act.send(greeting)
        while (command := act.read_until(b"\r\n")[:4]) != b"QUIT":
            if command == b"RETR":
                lines = reply.message.replace(b"\n", b"\r\n")
                if not reply.send(act, b"+OK\r\n", lines + b"\r\n.\r\n"):
                    return
            else:
                act.send(b"+OK\r\n")
        act.send(b"+OK bye\r\n")
        answer_close(act)

    return converse


def pop3_opening(opening: Opening) -> None:
    """The server's part of STLS (RFC 2595); the client asks for the capabilities first."""
    opening.send(b"+OK ready\r\n")
    opening.read_until(b"\r\n")
    opening.send(b"+OK\r\nSTLS\r\n.\r\n")
    opening.read_until(b"\r\n")
    opening.send(b"+OK begin\r\n")


POP3S: Final = Dialogue("POP3 over TLS, mail with a last line", _pop3(b"+OK ready\r\n"), greets=True, uploads=None)
POP3_STLS: Final = Dialogue("POP3 with STLS, mail with a last line", _pop3(b""), pop3_opening, uploads=None)


# -- FTP --------------------------------------------------------------------------------------------------------------


def _ftp(act: Act, reply: Reply) -> None:
    if act.number == 0:
        _ftp_control(act, reply)
    else:
        _ftp_data(act, reply)
        reply.between.done.put(b"")


def _ftp_control(act: Act, reply: Reply) -> None:
    port = b""
    command = b""
    while command != b"QUIT":
        command, _, argument = act.read_until(b"\r\n").strip().partition(b" ")
        if command == b"SITE":  # The scenario tells the port at which the peer listens.
            port = b"%d,%d" % divmod(int(argument), 256)
        if command == b"PASV":
            act.send(b"227 here (127,0,0,1,%b)\r\n" % port)
        elif command in {b"RETR", b"STOR"}:
            reply.between.begun.put(command)
            act.send(b"150 here it comes\r\n")
            reply.between.done.get(timeout=_PATIENCE)
            if command == b"RETR":
                act.send(b"226 done\r\n")
            elif not reply.send(act, b"", reply.message + b"\r\n"):
                return
        else:
            act.send(b"230 fine\r\n" if command in {b"USER", b"PASS"} else b"200 fine\r\n")
    answer_close(act)


def _ftp_data(act: Act, reply: Reply) -> None:
    if reply.between.begun.get(timeout=_PATIENCE) == b"STOR":
        act.read_exactly(reply.upload)
        act.wait_for("close_notify")
        act.close_notify()
        act.fin()
    elif reply.send(act, b"", reply.message):
        act.close_notify()
        act.wait_for("close_notify")
        act.fin()


def ftp_opening(opening: Opening) -> None:
    """The server's part of AUTH TLS (RFC 4217); data connections have none."""
    if opening.number == 0:
        opening.send(b"220 peer.test\r\n")
        opening.read_until(b"\r\n")
        opening.send(b"234 begin\r\n")


FTP_DOWNLOAD: Final = Dialogue(
    "FTP, file to the end of the data connection", _ftp, ftp_opening, open_ended=True, connections=2, uploads=None
)
#: ftplib takes a line without its end for a whole one, so that only the end of the connection tells.
FTP_UPLOAD: Final = Dialogue(
    "FTP, answer of one line to an upload", _ftp, ftp_opening, message=b"226 done", open_ended=True, connections=2
)
