"""The fuzz target of the engine. Its invariant:

Whatever comes, in whatever order: the engine raises only the errors of `bowout.errors` and repeats the first; sends at
most one close_notify, and nothing after it or after a fatal alert; holds no more than came, and within its caps; hands
out exactly what the peer sent; accounts for every byte written, sent or unsent; and calls an end clean only where both
close_notify were seen and every byte before the peer's was handed out.

    python -m fuzz.engine --time 60        # fuzz for a minute, from the corpus of seeds
    python -m fuzz.engine FILE…            # run these programs, once each, and say how they end
    python -m fuzz.engine --lane …         # the same with the lane in C; `fuzz.lane`

`fuzz.program` says what a program is, `fuzz.trial` holds the engine to the invariant.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fuzz import program

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.hands import Contexts

SEEDS: Final = Path(__file__).parent / "corpus" / "engine"
#: What a run finds is kept here, below the working directory: inputs that reach new code, and programs that fail.
FOUND: Final = Path(".fuzz")
_MAX_SIZE: Final = 4096


def main() -> int:
    """Fuzz, or replay."""
    options = _parser().parse_args()
    target = "fuzz.lane" if options.lane else "fuzz.trial"
    if options.programs:
        return _replay(target, options.programs)
    try:
        atheris = importlib.import_module("atheris")  # It has wheels for Linux on x86-64; replaying does without.
    except ImportError:
        print("error: atheris is not there: it has wheels for CPython on Linux on x86-64", file=sys.stderr)
        print("hint:  pip install --group fuzz", file=sys.stderr)
        return 1
    with atheris.instrument_imports(include=["bowout._core", "bowout.ending"]):
        trial = importlib.import_module(target)  # instrumented as it is imported
        from fuzz.hands import Contexts  # noqa: PLC0415
    contexts = Contexts()

    def one_input(text: bytes) -> None:
        try:
            trial.run(contexts, text)
        except Exception as error:
            _report(text, error, functools.partial(_fails_alike, type(error), contexts, trial.run))
            raise

    corpus = FOUND / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={options.time}",
        f"-seed={options.seed}",
        f"-max_len={_MAX_SIZE}",
        f"-artifact_prefix={FOUND}/",
        "-timeout=20",
        "-print_final_stats=1",
        f"-verbosity={int(sys.stderr.isatty())}",  # A log wants the result only.
        str(corpus),
        str(SEEDS),
    ]
    atheris.Setup(arguments, one_input, custom_mutator=program.mutate, custom_crossover=program.cross)
    atheris.Fuzz()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz.engine", description="Fuzz bowout's engine.")
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS", help="for how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="NUMBER", help="of the mutations (%(default)s)")
    parser.add_argument("--lane", action="store_true", help="over a socket, with the lane in C and without")
    parser.add_argument("programs", nargs="*", type=Path, metavar="FILE", help="replay these instead")
    return parser


def _replay(target: str, paths: list[Path]) -> int:
    trial = importlib.import_module(target)
    from fuzz.hands import Contexts  # noqa: PLC0415

    failed = 0
    with contextlib.closing(Contexts()) as contexts:
        for path in paths:
            try:
                print(f"{path}: {trial.run(contexts, path.read_bytes())}")
            except Exception as error:  # noqa: BLE001  (whatever it is, it is what was looked for)
                failed += 1
                print(f"{path}: {type(error).__name__}: {error}")
    return int(failed > 0)


def _report(text: bytes, error: Exception, fails: Callable[[bytes], bool]) -> None:
    """Write down the shortest program that fails like `text`, and say how to run it again."""
    shortest = program.reduce(text, fails)
    path = FOUND / f"failed-{hashlib.sha256(shortest).hexdigest()[:12]}.txt"
    path.write_bytes(f"# {type(error).__name__}: {error}\n".encode() + shortest)
    print(f"\n===== {type(error).__name__}: {error}\n{shortest.decode()}=====")
    print(f"run it again:  make fuzz ARGS={path}\n", flush=True)


def _fails_alike(
    kind: type[Exception], contexts: Contexts, run: Callable[[Contexts, bytes], object], text: bytes
) -> bool:
    try:
        run(contexts, text)
    except Exception as error:  # noqa: BLE001  (only one of the same kind counts)
        return type(error) is kind
    return False


if __name__ == "__main__":
    sys.exit(main())
