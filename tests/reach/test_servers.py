"""Server libraries, unmodified, over bowout: clients that leave badly do no harm, and good ones end well."""

from __future__ import annotations

import pytest

from bowout import How
from helpers.wire import Version
from reach import ends, registry, visits
from reach.cases import PARAMETERS, cases, way_of
from reach.observing import ServerSight, observe_server, require
from reach.registry import ServerScenario
from reach.ways import Means

#: A client has no answer to leave out.
ENDS = [end for end in ends.ENDS if end.answers]


@pytest.mark.parametrize(PARAMETERS, cases(registry.servers(), ours=True))
def test_a_good_client_gets_all_and_both_sides_end_well(
    scenario: ServerScenario, means: Means, loop: str, version: Version
) -> None:
    way = way_of(scenario, means, loop)
    require(scenario, way)
    sight = observe_server(scenario, way, None, version)
    check_good_client(scenario, sight)
    assert (sight.played.complaints, sight.played.tracebacks) == ([], [])
    assert [ending.how for ending in sight.played.endings] == [How.CLEAN]


@pytest.mark.parametrize(PARAMETERS, cases(registry.servers(), ours=True))
def test_a_client_that_leaves_badly_is_noticed_and_does_no_harm(
    scenario: ServerScenario, means: Means, loop: str, version: Version
) -> None:
    way = way_of(scenario, means, loop)
    require(scenario, way)
    for end in ENDS:
        sight = observe_server(scenario, way, end, version)
        check_good_client(scenario, sight)
        assert not sight.hung, end
        assert scenario.visit is visits.HTTP_DOWNLOAD or sight.saw[0] != "the whole", end
        if sight.played.complaints or sight.played.tracebacks:
            stock = observe_server(scenario, way_of(scenario, "stock", loop), end, version)
            check_complaints(sight, stock, end)
        check_ending(scenario, sight, end)


def check_good_client(scenario: ServerScenario, sight: ServerSight) -> None:
    """It was served, whatever came before it."""
    assert sight.played.error is None
    if scenario.visit in {visits.SMTPS, visits.STARTTLS}:
        assert sight.answer.startswith(b"250 ")
    else:
        assert sight.answer == visits.LARGE
    assert sight.ending is not None
    assert sight.ending.how is How.CLEAN, sight.ending


def check_ending(scenario: ServerScenario, sight: ServerSight, end: ends.End) -> None:
    """The server's ending is clean if, and only if, the client sent its close_notify, and the server had said all."""
    how = sight.played.endings[0].how
    if end is not ends.VOUCHED:
        assert how is not How.CLEAN, end
    elif scenario.visit is not visits.HTTP_DOWNLOAD:
        assert how is How.CLEAN, end


def check_complaints(sight: ServerSight, stock: ServerSight, end: ends.End) -> None:
    """There is no more noise than without bowout: one record of a library for a request that failed."""
    faults = [line for line in sight.played.complaints if "exception in client_connected_cb" not in line]
    assert faults == [], end
    assert len(sight.played.tracebacks) <= max(1, len(stock.played.tracebacks)), end
    if not stock.played.complaints:
        assert sight.played.complaints == [], end


@pytest.mark.parametrize(PARAMETERS, cases(registry.servers(), ours=False))
def test_the_visits_are_ones_that_the_server_understands(
    scenario: ServerScenario, means: Means, loop: str, version: Version
) -> None:
    way = way_of(scenario, means, loop)
    require(scenario, way)
    sight = observe_server(scenario, way, None, version)
    assert (sight.played.error, sight.hung) == (None, False)
    assert sight.answer.startswith(b"250 ") or sight.answer == visits.LARGE
