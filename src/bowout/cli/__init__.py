"""The command line: argument parsing and printing only. `main` is what the console script ``bowout`` runs."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import signal
import sys
import threading

from bowout.cli import _say

_NEEDED = ("typer", "rich")


def main() -> int:
    """Run the command line with the arguments of this process; give its exit status."""
    _open_what_is_closed()
    try:
        if any(importlib.util.find_spec(name) is None for name in _NEEDED):
            _say.error("the command line needs typer and rich", "pip install 'bowout[cli]'")
            return _say.USAGE
        from bowout.cli.app import run  # noqa: PLC0415  (its dependencies are an extra)

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        _say.interrupted()
        return _say.INTERRUPTED
    except BrokenPipeError:
        _say.silence(sys.stdout)  # Whoever read it has seen enough, as of `bowout --help | head`.
        return _say.HERE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _say.silence(sys.stdout)
        _say.error(f"cannot write to stdout: {error.strerror}")
        return _say.HERE
    finally:
        _heed_signals_no_more()


def _heed_signals_no_more() -> None:
    """All is told: what comes now ends us at once, and not with a traceback out of the interpreter that ends, too."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)


def _open_what_is_closed() -> None:
    """Occupy the standard descriptors that our parent closed, lest the next socket take one of these numbers.

    Stdin then is empty and stderr goes nowhere. Stdout is opened for reading: writing to it fails, which is noticed.
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
    # The interpreter made no streams of them.
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
