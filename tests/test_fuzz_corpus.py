"""The seeds of the fuzzer, replayed; and the fuzzer itself: what cannot find a fault finds none."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout import _lane
from bowout._core import buffers, records
from bowout._core.ending_builder import EndingBuilder
from bowout._core.facts import Facts
from bowout._core.incoming import Incoming
from bowout.ending import How
from fuzz import lane, program, trial
from fuzz.engine import SEEDS
from fuzz.hands import Contexts
from fuzz.seeds import seeds

PATHS = sorted(SEEDS.glob("*.txt"))
needs_lane = pytest.mark.skipif(_lane.native is None, reason="there is no lane in C here")


@pytest.fixture(scope="module")
def contexts() -> Iterator[Contexts]:
    with contextlib.closing(Contexts()) as made:
        yield made


def test_the_corpus_is_what_its_script_writes() -> None:
    """`PYTHONPATH=tests python -m fuzz.seeds` writes it anew."""
    assert {path.name: path.read_text() for path in PATHS} == seeds()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_seed_ends_as_it_says(contexts: Contexts, path: Path) -> None:
    text = path.read_bytes()
    wanted = next(line for line in text.splitlines() if line.startswith(b"# ends: "))
    assert trial.run(contexts, text).how == How(wanted.removeprefix(b"# ends: ").decode())


@needs_lane
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_seed_ends_alike_on_the_lane_in_c(contexts: Contexts, path: Path) -> None:
    text = path.read_bytes()
    assert lane.run(contexts, text).how == trial.run(contexts, text).how


@needs_lane
@given(st.integers(0, len(PATHS) - 1), st.integers(0, 2**32 - 1))
def test_a_mutation_ends_alike_on_the_lane_in_c(contexts: Contexts, number: int, seed: int) -> None:
    lane.run(contexts, program.mutate(PATHS[number].read_bytes(), 4096, seed))


def test_every_operation_is_in_the_corpus_or_in_a_mutation() -> None:
    dice = random.Random(1)
    texts = [path.read_bytes() for path in PATHS]
    texts += [program.mutate(dice.choice(texts), 4096, seed) for seed in range(2000)]
    used = {operation.name for text in texts for operation in program.parse(text).operations}
    assert used == set(program.OPERATIONS)


def test_every_text_is_a_program_that_reads_itself() -> None:
    dice = random.Random(2)
    for seed in range(500):
        text = program.cross(dice.choice(PATHS).read_bytes(), dice.randbytes(200), 4096, seed)
        text = program.mutate(text, 4096, seed)
        assert str(program.parse(text)).encode() == text


def test_numbers_are_brought_into_range() -> None:
    read = program.parse(b"read 99999999999999\nread -1\nalert 999 x\nrecord 21 zz\nnonsense 1\nread\n\xff")
    assert [str(line) for line in read.operations] == ["read 0", "read 0", "alert 255 0", "record 21 -", "read 0"]


def test_mutants_keep_to_the_invariant(contexts: Contexts) -> None:
    dice = random.Random(3)
    for seed in range(300):
        text = dice.choice(PATHS).read_bytes()
        for round_ in range(3):
            text = program.mutate(text, 4096, 10 * seed + round_)
        trial.run(contexts, text)


# -- an engine that is broken ------------------------------------------------------------------------------------------


def say_clean(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(EndingBuilder, "verdict", lambda *_, **__: How.CLEAN)


def hand_out_a_byte_more(broken: pytest.MonkeyPatch) -> None:
    read = Incoming.read_into
    broken.setattr(Incoming, "read_into", lambda self, view: (read(self, view) or -1) + 1 or None)


def forget_the_first_failure(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(Facts, "failed", property(lambda _: False, lambda *_: None), raising=False)


def take_a_truncation_for_an_end(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(Incoming, "input_exhausted", lambda self: self.end())


def lose_what_was_held(broken: pytest.MonkeyPatch) -> None:
    hold = Incoming.hold

    def lose(self: Incoming) -> None:
        hold(self)
        self.held.clear()

    broken.setattr(Incoming, "hold", lose)


def close_notify_before_it_left(broken: pytest.MonkeyPatch) -> None:
    taken = buffers.OutputQueue.taken
    broken.setattr(buffers.OutputQueue, "taken", lambda self, count: taken(self, len(self._chunks[0].data)))


def count_cut_records(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(buffers, "plaintext_taken", lambda chunk, taken, plaintext: min(taken, plaintext))


def share_with_a_key_update(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(records, "KEY_UPDATE_SIZE", 0)
    broken.setattr(buffers, "plaintext_taken", lambda chunk, taken, plaintext: plaintext // 4)


@pytest.mark.parametrize(
    "sabotage",
    [
        say_clean,
        hand_out_a_byte_more,
        forget_the_first_failure,
        take_a_truncation_for_an_end,
        lose_what_was_held,
        close_notify_before_it_left,
        count_cut_records,
        share_with_a_key_update,
    ],
)
def test_the_corpus_finds_an_engine_that_is_broken(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(trial.BrokenInvariant):  # noqa: PT012  (one of them finds it)
        for path in PATHS:
            trial.run(contexts, path.read_bytes())


def test_a_failing_program_is_made_shorter() -> None:
    text = b"shake\nread 1\nwrite 2\nread 3\nnotify\nread 4\n"
    shortest = program.reduce(text, lambda candidate: b"write" in candidate and b"notify" in candidate)
    assert shortest == b"write 2\nnotify\n"
