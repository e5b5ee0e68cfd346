"""What bowout does to meet an entry of the catalogue: as `Entry.you` says, and in how many ways that can be done."""

from __future__ import annotations

import enum
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import bowout
from bowout.testing import GREETING, LATE, Act, Outcome, You
from helpers.meeting import BLOCKING, LONG, MUCH, REPLY, SHORT, UPLOAD, Met, Scene
from helpers.tasks import Awaits, Background, cancelled, in_thread, jobs, settle

_OUTCOMES: Final[dict[type[BaseException], Outcome]] = {
    bowout.Truncated: Outcome.TRUNCATED,
    bowout.Reset: Outcome.RESET,
    bowout.AlertReceived: Outcome.ALERT,
    bowout.ProtocolViolation: Outcome.VIOLATION,
}


class Way(enum.StrEnum):
    """In which situation we are when the ending begins, or how we go about it."""

    #: As `Entry.you` says. Where the peer ends first, a receive is pending; where we do, we are idle.
    WHOLE = "whole"
    #: The same, and everything from the peer comes one byte at a time.
    BYTES = "byte by byte"
    UNREAD = "data unread"
    IDLE = "idle"
    READING = "a receive pending"
    SENDING = "a send blocked"
    CROSSING = "both at once"
    #: Instead of into the byte cap.
    DEADLINE = "into the deadline"
    # Row 22.
    NEVER_SHOOK = "before the handshake"
    CLOSED = "closed in the handshake"
    CANCELLED = "cancelled in the handshake"
    # Row 26.
    AT_EACH_AWAIT = "cancelled at each await"
    BESIDE = "cancelled beside another close"
    TWICE = "closed twice"
    TOGETHER = "close, receive and send at once"
    # Rows 27 to 29.
    MORE = "with data for the next receive"
    BLOCK = "by leaving the block"
    SERVED = "by bowout.serve"


#: The peer has to wait for `Peer.go` after its handshake, in these.
HELD: Final = frozenset({Way.SENDING, Way.CROSSING})


# -- the handshake


async def _no_handshake(scene: Scene) -> Met:
    return await _after_handshake(scene, await _ended(scene.stream.handshake))


async def _never_shook(scene: Scene) -> Met:
    return Met(await scene.stream.close(LONG), Outcome.HANDSHAKE_ERROR)


async def _closed_in_handshake(scene: Scene) -> Met:
    async with jobs() as group:
        shaking = group.start(scene.stream.handshake)
        await settle()
        ending = await scene.stream.close(LONG)
        error = await shaking.ended()
    assert isinstance(error, bowout.StreamClosed | bowout.HandshakeError), error
    return Met(ending, Outcome.HANDSHAKE_ERROR)


async def _cancelled_in_handshake(scene: Scene) -> Met:
    async with jobs() as group:
        shaking = group.start(scene.stream.handshake)
        await settle()
        shaking.cancel()
        error = await shaking.ended()
    assert isinstance(error, cancelled()), error
    return Met(_ending(scene), Outcome.HANDSHAKE_ERROR)


async def _after_handshake(scene: Scene, error: BaseException | None) -> Met:
    assert error is None or isinstance(error, bowout.HandshakeError), error
    return Met(await scene.stream.close(LONG), Outcome.HANDSHAKE_ERROR if error else Outcome.EOF)


# -- the peer ends


async def _read(scene: Scene) -> Met:
    data, outcome = await _read_to_end(scene.stream)
    return Met(await scene.stream.close(LONG), outcome, data)


async def _reply(scene: Scene) -> Met:
    data, outcome = await _read_to_end(scene.stream)
    await scene.stream.send(REPLY)
    return Met(await scene.stream.close(LONG), outcome, data)


async def _read_late(scene: Scene) -> Met:
    """All of it has come before anybody looks."""
    await scene.stream.handshake()
    await scene.peer_is_done()
    return Met(await scene.stream.close(LONG), Outcome.CLOSED)


async def _read_and_idle(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    await scene.peer_is_done()
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, data)


async def _read_while_sending(scene: Scene) -> Met:
    async with jobs() as group:
        sending = await _block(scene, group.start)
        scene.peer.go()
        data, outcome = await _read_to_end(scene.stream)
        ending = await scene.stream.close(LONG)
        await _expect_bowout_error(sending)
    return Met(ending, outcome, data)


async def _cross(scene: Scene) -> Met:
    """Our close_notify is in the kernel when the peer begins, and it does not read it before."""
    await scene.stream.handshake()
    async with jobs() as group:
        closing = group.start(scene.stream.close, LONG)
        await scene.watch.left.wait()
        scene.peer.go()
        return Met(await closing.result(), Outcome.CLOSED)


# -- we end


async def _close(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, data)


async def _close_unread(scene: Scene) -> Met:
    await scene.stream.handshake()
    await scene.peer_is_done()
    return Met(await scene.stream.close(LONG), Outcome.CLOSED)


async def _close_while_reading(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        receiving = group.start(scene.stream.receive)
        await settle()
        ending = await scene.stream.close(LONG)
        if scene.entry.name != "close_notify_crossing":  # there the receive may have met the peer's before
            await _expect_closed(receiving)
    return Met(ending, Outcome.CLOSED, data)


async def _close_while_sending(scene: Scene) -> Met:
    async with jobs() as group:
        sending = await _block(scene, group.start)
        closing = group.start(scene.stream.close, LONG)
        await settle()
        scene.peer.go()
        ending = await closing.result()
        error = await sending.ended()
        # The peer's close_notify may come first, and TLS 1.2 has pending writes dropped then.
        assert (error is None) == (ending.unsent == 0), error
        return Met(ending, Outcome.CLOSED)


async def _half_close(scene: Scene) -> Met:
    await scene.stream.handshake()
    await scene.stream.send_eof()
    data, outcome = await _read_to_end(scene.stream)
    return Met(await scene.stream.close(LONG), outcome, data)


async def _half_close_while_reading(scene: Scene) -> Met:
    await scene.stream.handshake()
    async with jobs() as group:
        reading = group.start(_read_to_end, scene.stream)
        await settle()
        await scene.stream.send_eof()
        data, outcome = await reading.result()
    return Met(await scene.stream.close(LONG), outcome, data)


async def _half_close_while_sending(scene: Scene) -> Met:
    async with jobs() as group:
        sending = await _block(scene, group.start)
        half_closing = group.start(scene.stream.send_eof)
        await settle()
        scene.peer.go()
        data, outcome = await _read_to_end(scene.stream)
        await sending.result()
        await half_closing.result()
    return Met(await scene.stream.close(LONG), outcome, data)


async def _upload(scene: Scene) -> Met:
    await scene.stream.send(UPLOAD)
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, GREETING)


# -- we end, and run into the deadline


async def _close_in_time(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    return Met(await _out_of_time(scene), Outcome.CLOSED, data)


async def _close_in_time_unread(scene: Scene) -> Met:
    await scene.stream.handshake()
    await scene.peer_is_done()
    return Met(await _out_of_time(scene), Outcome.CLOSED)


async def _close_in_time_while_reading(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        receiving = group.start(scene.stream.receive)
        await settle()
        ending = await _out_of_time(scene)
        await _expect_closed(receiving)
    return Met(ending, Outcome.CLOSED, data)


async def _close_in_time_while_sending(scene: Scene) -> Met:
    async with jobs() as group:
        sending = await _block(scene, group.start)
        scene.peer.go()
        ending = await _out_of_time(scene)
        await sending.result()
    return Met(ending, Outcome.CLOSED)


async def _out_of_time(scene: Scene) -> bowout.Ending:
    """The deadline comes when what the entry is about has happened, however slow the machine is."""
    async with jobs() as group:
        closing = group.start(scene.stream.close, LONG)
        await scene.watch.left.wait()
        if any(right.discarded for _, _, right in scene.entry.cases()):
            await scene.watch.late.wait()
        hurrying = await scene.stream.close(SHORT)
        assert hurrying is await closing.result(), "two closes, one ending"
    return hurrying


async def _blocked_send(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        scene.small_buffer()
        sending = group.start(scene.stream.send, MUCH)
        await settle()
        ending = await scene.stream.close(SHORT)
        await _expect_closed(sending)
    return Met(ending, Outcome.CLOSED, data)


# -- situations 1 and 2


async def _close_in_read(scene: Scene) -> Met:
    data = b""
    async for chunk in scene.stream:
        data += chunk
        await scene.stream.close(LONG)
    return Met(_ending(scene), Outcome.CLOSED, data)


async def _leave_block_in_read(scene: Scene) -> Met:
    data = b""
    async with scene.stream:
        async for chunk in scene.stream:
            data += chunk
            if data == scene.entry.sends:
                break
    return Met(_ending(scene), Outcome.CLOSED, data)


async def _cancel_read(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    await _cancel_receive(scene)
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, data)


async def _cancel_read_and_read_on(scene: Scene) -> Met:
    """What comes after the cancellation is for the next receive."""
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    await _cancel_receive(scene)
    scene.peer.go()
    data += await scene.stream.receive_exactly(len(LATE))
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, data)


async def _cancel_receive(scene: Scene) -> None:
    async with jobs() as group:
        receiving = group.start(scene.stream.receive)
        await settle()
        receiving.cancel()
        assert isinstance(await receiving.ended(), cancelled())


def late_when_told(act: Act) -> None:
    """Row 27's peer, with something to say when the receive was cancelled."""
    act.handshake()
    act.send(GREETING)
    act.wait_for_go()
    act.send(LATE)
    act.wait_for("close_notify")
    act.close_notify()
    act.fin()


# -- row 26


def cancel_close_at(awaits: Awaits) -> Callable[[Scene], Awaitable[Met]]:
    """Cancel the close at one await, or at none where there are fewer; the peer answers from the first on."""

    async def move(scene: Scene) -> Met:
        data = await scene.stream.receive_exactly(len(scene.entry.sends))

        async def close() -> bowout.Ending:
            return await scene.stream.close(LONG)

        await awaits.drive(close)
        ending = _ending(scene)
        assert await scene.stream.close(LONG) is ending, "idempotent, and after a cancelled one, too"
        return Met(ending, Outcome.CLOSED, data)

    return move


async def _cancel_beside(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        first = group.start(scene.stream.close, LONG)
        await settle()
        second = group.start(scene.stream.close, LONG)
        await settle()
        first.cancel()
        ending = await second.result()
        assert isinstance(await first.ended(), cancelled())
    return Met(ending, Outcome.CLOSED, data)


async def _close_twice(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        closing = [group.start(scene.stream.close, LONG) for _ in range(2)]
        await settle()
        scene.peer.go()
        endings = [await close.result() for close in closing]
    endings += [await scene.stream.close(), await scene.stream.wait_ended(), scene.stream.abort()]
    assert all(ending is endings[0] for ending in endings)
    return Met(endings[0], Outcome.CLOSED, data)


async def _all_at_once(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        receiving = group.start(scene.stream.receive)
        sending = group.start(scene.stream.send, REPLY)
        closing = group.start(scene.stream.close, LONG)
        scene.peer.go()
        ending = await closing.result()
        await _expect_closed(receiving)
        error = await sending.ended()
        assert error is None or isinstance(error, bowout.StreamClosed)
        assert ending.sent == (len(REPLY) if error is None else 0)
    return Met(ending, Outcome.CLOSED, data)


# -- row 30


async def _unwrap(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    sock, rest = await scene.stream.unwrap(LONG)
    rest = await _go_on_in_plain(scene, sock, rest)
    return Met(_ending(scene), Outcome.EOF, data, rest)


async def _unwrap_crossing(scene: Scene) -> Met:
    await scene.stream.handshake()
    async with jobs() as group:
        unwrapping = group.start(scene.stream.unwrap, LONG)
        await scene.watch.left.wait()
        scene.peer.go()
        sock, rest = await unwrapping.result()
    rest = await _go_on_in_plain(scene, sock, rest)
    return Met(_ending(scene), Outcome.CLOSED, plaintext=rest)


async def _go_on_in_plain(scene: Scene, sock: socket.socket, rest: bytes) -> bytes:
    """What did not come with close_notify comes on the socket."""
    wanted = max(len(right.plaintext) for _, _, right in scene.entry.cases())

    def receive() -> bytes:
        got = rest
        with sock:
            sock.settimeout(LONG)
            sock.sendall(REPLY)
            while len(got) < wanted and (more := sock.recv(wanted)):
                got += more
        return got

    return await in_thread(receive)


# -- row 29


async def drain(scenes: list[Scene]) -> list[Met]:
    """End them all; those that are left when every second has ended have little time."""
    closing: list[Background[bowout.Ending]] = []
    async with jobs() as group:
        data = [await scene.stream.receive_exactly(len(scene.entry.sends)) for scene in scenes]
        closing += [group.start(scene.stream.close, LONG) for scene in scenes]
        while sum(close.done for close in closing) < len(scenes) // 2:
            await in_thread(lambda: None)
        async with jobs() as hurrying:
            for scene in scenes:
                hurrying.start(scene.stream.close, SHORT)
    return [Met(await close.result(), Outcome.CLOSED, said) for close, said in zip(closing, data, strict=True)]


# -- what they share


async def _read_to_end(stream: bowout.Stream) -> tuple[bytes, Outcome]:
    data = b""
    try:
        while chunk := await stream.receive():
            data += chunk
    except bowout.PeerError as error:
        return data, _OUTCOMES[type(error)]
    return data, Outcome.EOF


async def _block(scene: Scene, start: Callable[..., Background[None]]) -> Background[None]:
    """A send that waits for the peer to read."""
    scene.small_buffer()
    await scene.stream.handshake()
    sending = start(scene.stream.send, BLOCKING)
    await settle()
    assert not sending.done
    return sending


async def _ended(function: Callable[[], Awaitable[object]]) -> BaseException | None:
    try:
        await function()
    except bowout.BowoutError as error:
        return error
    return None


async def _expect_closed(job: Background[Any]) -> None:
    error = await job.ended()
    assert isinstance(error, bowout.StreamClosed), error


async def _expect_bowout_error(job: Background[Any]) -> None:
    error = await job.ended()
    assert error is None or isinstance(error, bowout.BowoutError), error


def _ending(scene: Scene) -> bowout.Ending:
    ending = scene.stream.ending
    assert ending is not None, "it was ended, and there is no ending"
    return ending


MOVES: Final[dict[You, dict[Way, Callable[[Scene], Awaitable[Met]]]]] = {
    You.HANDSHAKE: {Way.WHOLE: _no_handshake, Way.BYTES: _no_handshake},
    You.LEAVE_HANDSHAKE: {
        Way.WHOLE: _no_handshake,
        Way.BYTES: _no_handshake,
        Way.NEVER_SHOOK: _never_shook,
        Way.CLOSED: _closed_in_handshake,
        Way.CANCELLED: _cancelled_in_handshake,
    },
    You.READ: {
        Way.WHOLE: _read,
        Way.BYTES: _read,
        Way.UNREAD: _read_late,
        Way.IDLE: _read_and_idle,
        Way.SENDING: _read_while_sending,
        Way.CROSSING: _cross,
    },
    You.REPLY: {Way.WHOLE: _reply, Way.BYTES: _reply},
    You.CLOSE: {
        Way.WHOLE: _close,
        Way.BYTES: _close,
        Way.UNREAD: _close_unread,
        Way.READING: _close_while_reading,
        Way.SENDING: _close_while_sending,
    },
    You.CLOSE_IN_TIME: {
        Way.WHOLE: _close_in_time,
        Way.BYTES: _close_in_time,
        Way.UNREAD: _close_in_time_unread,
        Way.READING: _close_in_time_while_reading,
        Way.SENDING: _close_in_time_while_sending,
    },
    You.HALF_CLOSE: {
        Way.WHOLE: _half_close,
        Way.BYTES: _half_close,
        Way.READING: _half_close_while_reading,
        Way.SENDING: _half_close_while_sending,
    },
    You.CLOSE_IN_READ: {Way.WHOLE: _close_in_read, Way.BYTES: _close_in_read, Way.BLOCK: _leave_block_in_read},
    You.CANCEL_READ: {Way.WHOLE: _cancel_read, Way.BYTES: _cancel_read, Way.MORE: _cancel_read_and_read_on},
    You.CANCEL_CLOSE: {Way.BESIDE: _cancel_beside, Way.TWICE: _close_twice, Way.TOGETHER: _all_at_once},
    You.BLOCKED_SEND: {Way.WHOLE: _blocked_send, Way.BYTES: _blocked_send},
    You.UPLOAD: {Way.WHOLE: _upload, Way.BYTES: _upload},
    You.UNWRAP: {Way.WHOLE: _unwrap, Way.BYTES: _unwrap, Way.CROSSING: _unwrap_crossing},
}
