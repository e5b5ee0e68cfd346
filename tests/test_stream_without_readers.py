"""The same contract on a loop that cannot watch descriptors, such as the proactor of Windows.

The tests of the other files are collected here once more, with a `run` of its own.
"""

from __future__ import annotations

import pytest

from helpers.runners import Runner
from test_backends import RunnerWithoutReaders
from test_stream_abort import *  # noqa: F403
from test_stream_block import *  # noqa: F403
from test_stream_close import *  # noqa: F403
from test_stream_close_bad_peers import *  # noqa: F403
from test_stream_close_calls import *  # noqa: F403
from test_stream_receive import *  # noqa: F403
from test_stream_send import *  # noqa: F403


@pytest.fixture
def run() -> Runner:
    return RunnerWithoutReaders()
