"""The command ``bowout``, outside the package: an import from inside it would import the whole library first.

That takes a moment, in which a Ctrl-C must end the program without a traceback, and in which the lane that the
environment asks for may not be there. ``python -m bowout`` imports the package first: it calls `before_the_package`.
"""

from __future__ import annotations

try:
    import importlib
    import os
    import signal
except KeyboardInterrupt:
    raise SystemExit(130) from None

#: The name of the module that chooses the lane, and the variable by which a user does.
_LANE = "bowout._lane"
_VARIABLE = "BOWOUT_LANE"
#: Why there is not the lane that was asked for; empty if there is.
_refusals: list[str] = []


def main() -> int:
    """Run the command line; return its exit status."""
    _end_at_ctrl_c()
    from bowout.cli import main as run  # noqa: PLC0415  (this is the slow import)

    try:
        return run(refusal="".join(_refusals))
    except KeyboardInterrupt:  # one more while the first is told
        return 130


def before_the_package() -> None:
    """Prepare the import of the package for the command: a Ctrl-C is silent, and a lane that is not there is no error.

    The command goes on without that lane, as far as it takes to report it as it reports other usage errors.
    """
    _end_at_ctrl_c()
    try:
        importlib.import_module(_LANE)
    except ImportError as error:
        if error.name != _LANE:
            raise
        os.environ.pop(_VARIABLE, None)
        _refusals.append(str(error))


def _end_at_ctrl_c() -> None:
    """Let a Ctrl-C end the process at once, unless our parent told us to ignore it; `bowout.cli.main` changes that."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
