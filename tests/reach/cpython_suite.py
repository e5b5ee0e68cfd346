"""Run CPython's own tests of asyncio with bowout's TLS installed, and tell what came of each: a program.

    python cpython_suite.py [--tls stock|tolerate|raise] [--match PATTERN]… MODULE…

It writes one line of JSON when a test starts and one when it has ended, with its name, its outcome and a reason, and a
last one that says that all have ended. A test that hangs ends the program. Modules are those of ``test.test_asyncio``.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import sys
import traceback
import unittest
from typing import Any, TextIO

PACKAGE = "test.test_asyncio"
#: Seconds after which a test hangs: no time that is measured, only the end of a hang. The slowest takes 6 s.
_PATIENCE = 150.0
#: Lines of a traceback that tell enough.
_LINES = 12


class JSONResult(unittest.TestResult):
    """Writes each outcome as soon as it is known, so that a hang or a crash can be told from an end."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out
        self._failed: dict[str, str] = {}
        self._skipped: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 unittest's name
        super().startTest(test)
        self.write(test.id(), "started", "")
        faulthandler.dump_traceback_later(_PATIENCE, exit=True)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 unittest's name
        super().addError(test, err)
        self._fail(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 unittest's name
        super().addFailure(test, err)
        self._fail(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802 unittest's name
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._fail(test, err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 unittest's name
        super().addUnexpectedSuccess(test)
        self._failed[test.id()] = "passed, and was expected to fail"

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802 unittest's name
        super().addSkip(test, reason)
        self._skipped[test.id()] = reason

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 unittest's name
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        name = test.id()
        if name in self._failed:
            self.write(name, "failed", self._failed[name])
        else:
            self.write(name, "skipped" if name in self._skipped else "passed", self._skipped.get(name, ""))

    def write(self, name: str, outcome: str, reason: str) -> None:
        """Write one line."""
        json.dump({"test": name.removeprefix(f"{PACKAGE}."), "outcome": outcome, "reason": reason}, self._out)
        self._out.write("\n")
        self._out.flush()

    def _fail(self, test: unittest.TestCase, err: Any) -> None:
        lines = "".join(traceback.format_exception(*err)).splitlines()
        self._failed.setdefault(test.id(), "\n".join(lines[-_LINES:]))


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", choices=("stock", "tolerate", "raise"), default="stock", help="stock, or how ours is")
    parser.add_argument("--match", action="append", help="run only the tests whose names match, as unittest's -k")
    parser.add_argument("modules", nargs="+")
    arguments = parser.parse_args()
    out = sys.stdout
    sys.stdout = sys.stderr  # tests may print
    if arguments.tls != "stock":
        import bowout.asyncio  # noqa: PLC0415 not without it

        bowout.asyncio.install(policy=bowout.asyncio.Policy(truncation=arguments.tls))
    loader = unittest.TestLoader()
    loader.testNamePatterns = arguments.match
    result = JSONResult(out)
    for module in arguments.modules:
        loader.loadTestsFromModule(importlib.import_module(f"{PACKAGE}.{module}")).run(result)
    result.write("", "ended", "")


if __name__ == "__main__":
    main()
