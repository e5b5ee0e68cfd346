"""The command line: argument parsing and printing only. `main` is what the console script ``bowout`` runs."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import signal
import sys
import threading

from bowout.cli.console import output

_NEEDED = ("typer", "rich")
_WITHOUT = "unset BOWOUT_LANE, or set it to python"


def main(refusal: str = "") -> int:
    """Run the command line with the arguments of this process; return its exit status.

    Args:
        refusal: why it cannot run in this environment: only this is reported then.
    """
    _open_what_is_closed()
    try:
        if any(importlib.util.find_spec(name) is None for name in _NEEDED):
            output.error("the command line needs typer and rich", "pip install 'bowout[cli]'")
            return output.USAGE
        from bowout.cli.app import refuse, run  # noqa: PLC0415  (its dependencies are an extra)

        _hear_ctrl_c()
        return refuse(refusal, _WITHOUT, sys.argv[1:]) if refusal else run(sys.argv[1:])
    except KeyboardInterrupt:
        output.interrupted()
        return output.INTERRUPTED
    except BrokenPipeError:
        output.silence(sys.stdout)  # The reader has closed the pipe, as in `bowout --help | head`.
        return output.HERE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        output.silence(sys.stdout)
        output.error(f"cannot write to stdout: {error.strerror}")
        return output.HERE
    finally:
        _heed_signals_no_more()


def _hear_ctrl_c() -> None:
    """Let a Ctrl-C raise KeyboardInterrupt: until all was imported, it ended the process (`bowout_command`)."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _heed_signals_no_more() -> None:
    """Restore the default of signals: all is reported, and a late signal must not show a traceback at the exit."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)


def _open_what_is_closed() -> None:
    """Open the standard descriptors that our parent closed, so that no socket gets one of these numbers.

    Stdin is then empty, and stderr is discarded. Stdout is opened for reading, so that a write to it fails.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    # The interpreter has made no streams for them.
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
