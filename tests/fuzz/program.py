"""What the fuzzer feeds the engine: a little program in plain text, one operation a line.

    tls 1.3
    us client
    shake           # shake hands with a real OpenSSL peer
    data 5          # the peer writes a record with five bytes ...
    alert 1 0       # ... and close_notify,
    deliver 0       # all of which reaches the engine,
    read 65536      # which is read to the end

Every text is a program: what is no operation is passed over, numbers are brought into range. So a mutated program is
one, too, and a crash is a file that a person can read.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: Numbers that have a meaning somewhere: ends of records, of slices, of caps, alert codes, content types.
_INTERESTING: Final = (0, 1, 2, 4, 5, 6, 20, 21, 22, 23, 80, 90, 100, 255, 16384, 16385, 65536, 70000)
_MAX_NUMBER: Final = 300_000
_MAX_HEX: Final = 64
_MAX_OPS: Final = 60

#: Every operation with its arguments: "number" is 0 … 300000, "byte" 0 … 255, "hex" a few bytes.
OPERATIONS: Final[dict[str, tuple[str, ...]]] = {
    # The handshake.
    "shake": (),  # all of it
    "turn": (),  # the peer's next flight is on the wire, and ours goes to it
    # What the peer writes, under the connection's own keys.
    "data": ("number",),
    "alert": ("byte", "byte"),
    "record": ("byte", "hex"),
    "ticket": ("number", "number"),  # a slice of a session ticket's message
    "keyupdate": ("byte",),
    # What anybody on the way writes.
    "raw": ("hex",),
    "garbage": ("number",),  # a whole record that nobody can decrypt
    # What happens to what was written and is not delivered.
    "flip": ("number",),
    "cut": ("number",),
    "skip": ("number",),
    "swap": (),
    "again": (),
    # The transport: so many bytes are delivered, 0 for all; so many are taken, 0 for all.
    "deliver": ("number",),
    "pull": ("number", "number"),  # deliver so many bytes, and read into so large a buffer in the same call
    "fin": (),
    "rst": (),
    "lost": (),  # our send failed
    "take": ("number",),
    # The application.
    "handshake": (),
    "read": ("number",),
    "write": ("number",),
    "hold": (),
    "discard": ("number",),
    "notify": (),
    "call": ("byte",),  # 1: a verb that ends both directions
    "sentfin": (),
    "sentrst": (),
    "leftover": (),
    "finish": (),
    "giveup": (),
    "discarded": ("number",),
    "unsent": ("number",),
}

#: What a program is run with; the first value is the default.
SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "tls": ("1.3", "1.2"),
    "us": ("client", "server"),
    "truncation": ("raise", "tolerate"),
    "hook": ("on", "off"),  # off: the ssl module reports no messages
}


class Operation(NamedTuple):
    """One line."""

    name: str
    numbers: tuple[int, ...] = ()
    data: bytes = b""

    def __str__(self) -> str:
        words = [self.name, *map(str, self.numbers)]
        if "hex" in OPERATIONS[self.name]:
            words.append(self.data.hex() or "-")
        return " ".join(words)


@dataclass
class FuzzProgram:
    """Settings and operations."""

    settings: dict[str, str] = field(default_factory=lambda: {name: values[0] for name, values in SETTINGS.items()})
    operations: list[Operation] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{name} {value}" for name, value in self.settings.items() if value != SETTINGS[name][0]]
        return "".join(f"{line}\n" for line in [*lines, *map(str, self.operations)])


def parse(text: bytes) -> FuzzProgram:
    """Read a program out of anything."""
    program = FuzzProgram()
    for line in text.decode("ascii", "replace").splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[1] in SETTINGS.get(words[0], ()):
            program.settings[words[0]] = words[1]
        elif words and words[0] in OPERATIONS and len(program.operations) < _MAX_OPS:
            program.operations.append(_operation(words[0], words[1:]))
    return program


def _operation(name: str, words: list[str]) -> Operation:
    numbers: list[int] = []
    data = b""
    for kind, word in zip(OPERATIONS[name], [*words, *["0"] * len(OPERATIONS[name])], strict=False):
        if kind == "hex":
            data = _hex(word)
        else:
            number = int(word) if word.isdecimal() and len(word) < 10 else 0
            numbers.append(min(number, 255 if kind == "byte" else _MAX_NUMBER))
    return Operation(name, tuple(numbers), data)


def _hex(word: str) -> bytes:
    try:
        return bytes.fromhex(word)[:_MAX_HEX]
    except ValueError:
        return b""


# -- mutation ----------------------------------------------------------------------------------------------------------


def mutate(text: bytes, max_size: int, seed: int) -> bytes:
    """A program that is much like `text`; the same for the same `seed`."""
    dice = random.Random(seed)
    program = parse(text)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        dice.choice((_insert, _insert, _insert, _delete, _tweak, _tweak, _swap, _set, _repeat))(program, dice)
    return str(program).encode()[:max_size]


def cross(one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    """The beginning of one program and the end of another."""
    dice = random.Random(seed)
    program, second = parse(one), parse(other)
    head = program.operations[: dice.randint(0, len(program.operations))]
    program.operations = [*head, *second.operations[dice.randint(0, len(second.operations)) :]]
    return str(program).encode()[:max_size]


def reduce(text: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Leave out of the program whatever it fails without, too."""
    program = parse(text)
    size = len(program.operations)
    while size:
        at = 0
        while at < len(program.operations):
            shorter = FuzzProgram(program.settings, program.operations[:at] + program.operations[at + size :])
            if fails(str(shorter).encode()):
                program = shorter
            else:
                at += size
        size //= 2
    return str(program).encode()


def _insert(program: FuzzProgram, dice: random.Random) -> None:
    name = dice.choice(list(OPERATIONS))
    kinds = OPERATIONS[name]
    numbers = tuple(_number(dice) if kind == "number" else _byte(dice) for kind in kinds if kind != "hex")
    data = dice.choice((b"\1\0", b"\2\0", b"\1\1", b"\0\0\0\0", dice.randbytes(dice.randint(0, 9))))
    at = dice.randint(0, len(program.operations))
    program.operations.insert(at, Operation(name, numbers, data if "hex" in kinds else b""))


def _delete(program: FuzzProgram, dice: random.Random) -> None:
    if program.operations:
        del program.operations[dice.randrange(len(program.operations))]


def _tweak(program: FuzzProgram, dice: random.Random) -> None:
    places = [at for at, operation in enumerate(program.operations) if OPERATIONS[operation.name]]
    if places:
        at = dice.choice(places)
        name, numbers, data = program.operations[at]
        kinds = [kind for kind in OPERATIONS[name] if kind != "hex"]
        which = dice.randrange(len(OPERATIONS[name]))
        if which < len(numbers):
            value = _number(dice) if kinds[which] == "number" else _byte(dice)
            numbers = (*numbers[:which], value, *numbers[which + 1 :])
        else:
            where = dice.randint(0, len(data))
            data = data[:where] + dice.randbytes(dice.randint(0, 3)) + data[where + dice.randint(0, 1) :]
        program.operations[at] = Operation(name, numbers, data[:_MAX_HEX])


def _swap(program: FuzzProgram, dice: random.Random) -> None:
    if len(program.operations) > 1:
        one, other = dice.sample(range(len(program.operations)), 2)
        program.operations[one], program.operations[other] = program.operations[other], program.operations[one]


def _repeat(program: FuzzProgram, dice: random.Random) -> None:
    if program.operations:
        at = dice.randrange(len(program.operations))
        program.operations.insert(dice.randint(0, len(program.operations)), program.operations[at])


def _set(program: FuzzProgram, dice: random.Random) -> None:
    name = dice.choice(list(SETTINGS))
    program.settings[name] = dice.choice(SETTINGS[name])


def _number(dice: random.Random) -> int:
    return dice.choice((*_INTERESTING, dice.randint(0, 40), dice.randint(0, 20_000), dice.randint(0, _MAX_NUMBER)))


def _byte(dice: random.Random) -> int:
    return dice.choice((0, 0, 1, 1, 2, 10, 20, 21, 22, 23, 80, 90, 100, dice.randint(0, 255)))
