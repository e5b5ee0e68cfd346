"""Client libraries, unmodified, over bowout: they end well, and no part of a message passes for the whole."""

from __future__ import annotations

import pytest

from bowout import How
from helpers.wire import Version
from reach import dialogues, ends, registry
from reach.cases import PARAMETERS, cases, way_of
from reach.observing import HANGS, HIDDEN, WHOLE, observe_client, require
from reach.registry import ClientScenario
from reach.ways import ASYNCIO_WAYS, Means

#: More than a megabyte, of text, since it goes over WebSockets too.
LARGE = b"all that there is to say\n" * 60_000
#: A mail of the same size: lines that end as SMTP demands.
MAIL = b"all that there is to say\r\n" * 60_000

#: Errors of those who wrote the code, not of a connection.
FAULTS = (AssertionError, AttributeError, NameError, NotImplementedError, TypeError)

OURS = cases(registry.clients(), ours=True)


@pytest.mark.parametrize(PARAMETERS, OURS)
def test_all_arrives_both_ways_and_both_sides_end_well(
    scenario: ClientScenario, means: Means, loop: str, version: Version
) -> None:
    way = way_of(scenario, means, loop)
    require(scenario, way)
    dialogue = scenario.dialogue
    sight = observe_client(
        scenario,
        way,
        None,
        version,
        message=LARGE if dialogue.message == dialogues.MESSAGE else None,
        upload=upload_of(scenario),
    )
    assert (sight.saw, sight.played.complaints, sight.played.tracebacks) == (WHOLE, [], [])
    assert sight.received >= len(upload_of(scenario))
    assert (sight.report.close_notify, sight.report.rst, sight.report.alerts[1:]) == (1, False, ()), sight.report
    assert sight.report.ending.how is How.CLEAN, sight.report
    assert {ending.how for ending in sight.played.endings} <= {How.CLEAN}


def upload_of(scenario: ClientScenario) -> bytes:
    """What the application sends before."""
    if scenario.dialogue.uploads is None or scenario.library == "asyncio streams":
        return b""
    return MAIL if scenario.dialogue.uploads == "mail" else LARGE


@pytest.mark.parametrize(PARAMETERS, OURS)
def test_no_part_of_a_message_passes_for_the_whole(
    scenario: ClientScenario, means: Means, loop: str, version: Version
) -> None:
    """Where only the end of the connection ends a message, close_notify says that it is the whole."""
    way = way_of(scenario, means, loop)
    require(scenario, way)
    wrong = {}
    for end in ends.ENDS:
        sight = observe_client(scenario, way, end, version)
        vouched = scenario.dialogue.open_ended and end is ends.VOUCHED
        if sight.played.complaints or sight.played.tracebacks:
            wrong[end.name] = f"{sight.saw}, {sight.played.complaints}, {sight.played.tracebacks}"
        elif sight.saw in {HANGS, WHOLE} or isinstance(sight.played.error, FAULTS):
            wrong[end.name] = f"{sight.saw}: {sight.played.error}"
        elif (sight.played.error is None) != vouched:
            wrong[end.name] = sight.saw
    assert wrong == {}


@pytest.mark.parametrize("end", [ends.FIN, ends.CUT_RECORD, ends.RST], ids=str)
def test_the_same_scenario_shows_what_a_library_hides(end: ends.End) -> None:
    """If it did not, the tests above would prove nothing."""
    (scenario,) = [
        one for one in registry.clients() if (one.library, one.dialogue) == ("aiohttp", dialogues.HTTP_TO_THE_END)
    ]
    way = ASYNCIO_WAYS[0]
    assert str(way) == "asyncio-stock"
    require(scenario, way)
    assert observe_client(scenario, way, end).saw == HIDDEN


@pytest.mark.parametrize(PARAMETERS, cases(registry.clients(), ours=False))
def test_the_scripts_are_ones_that_the_library_understands(
    scenario: ClientScenario, means: Means, loop: str, version: Version
) -> None:
    way = way_of(scenario, means, loop)
    require(scenario, way)
    assert observe_client(scenario, way, None, version).saw == WHOLE
