"""The console script ``bowout``, outside the package: an import from inside it would import the whole library first.

That takes a moment, and a Ctrl-C in that moment must end the program without a traceback.
"""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command line; return its exit status."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # not if our parent told us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bowout.cli import main as run  # noqa: PLC0415  (this is the slow import)

    signal.signal(signal.SIGINT, heard)
    return run()
