"""The console script ``bowout``, beside the package: whatever is imported from within imports the whole library first.

That takes a moment, and in that moment a Ctrl-C must end the program like any other, and not show a traceback.
"""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command line; give its exit status."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # and not where our parent told us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bowout.cli import main as run  # noqa: PLC0415  (the moment that this is about)

    signal.signal(signal.SIGINT, heard)
    return run()
