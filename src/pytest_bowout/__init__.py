"""The pytest plugin of bowout: peers that end TLS connections in every wrong way, as fixtures.

    def test_a_truncation_is_an_error(tls_peer):
        peer = tls_peer("fin_inside_record")
        with pytest.raises(OSError):
            download(peer.address, context=peer.client_context())

pytest loads this module in every run where bowout is installed, with the extra `testing` or without, and before it
measures coverage. So this module is outside the package `bowout`, and imports it only when a fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_bowout._endings import TLSEnding, chosen
from pytest_bowout._extra import testing
from pytest_bowout._peers import TLSPeers
from pytest_bowout._terminal_style import TerminalStyle

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    import trustme

    from bowout.testing import PeerRole, TLSVersion

    PeerContext = Callable[[PeerRole, TLSVersion | None], ssl.SSLContext | None]

__all__ = ["TLSEnding", "TLSPeers"]

_MARK = (
    "tls_endings(role='server', tls=('1.2', '1.3'), rows=None, names=None, without=None, you=None, outcome=None, "
    "xfail=None): run a test that takes the fixture tls_ending once for each of these endings of bowout.testing."
)
_TIMEOUT = "seconds that one connection of a tls_peer can last: it ends a hang; a test normally takes less"

_peers = pytest.StashKey[TLSPeers]()
_style = pytest.StashKey[TerminalStyle]()
_interrupted = pytest.StashKey[list[tuple[str, str]]]()

# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tls_ca() -> trustme.CA:
    """Return a certificate authority (of trustme) for this session. Override it to use one of your own."""
    testing()
    import trustme  # noqa: PLC0415  (it comes with the extra)

    return trustme.CA()


@pytest.fixture(scope="session")
def tls_ca_file(tls_ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the certificate of `tls_ca` as a PEM file, for clients that need a path."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    tls_ca.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def tls_client_context(tls_ca: trustme.CA) -> ssl.SSLContext:
    """Return a fresh context for a client under test, which trusts only `tls_ca`."""
    context: ssl.SSLContext = testing().client_context(tls_ca)
    return context


@pytest.fixture
def tls_server_context(tls_ca: trustme.CA) -> ssl.SSLContext:
    """Return a fresh context for a server under test, with a certificate for localhost and the loopback addresses."""
    context: ssl.SSLContext = testing().server_context(tls_ca)
    return context


@pytest.fixture(scope="session")
def tls_listen_address() -> tuple[str, int]:
    """Return the peers' address: loopback, any free port. Override it for another, such as ``("::1", 0)``."""
    return "127.0.0.1", 0


@pytest.fixture(scope="session")
def tls_peer_context() -> PeerContext:
    """Return ``f(role, tls)``, which returns a peer's `ssl.SSLContext`, or None for bowout's own. Override it."""
    return lambda role, tls: None  # noqa: ARG005  (the names say how to override it)


@pytest.fixture
def tls_peer(
    request: pytest.FixtureRequest,
    tls_ca: trustme.CA,
    tls_listen_address: tuple[str, int],
    tls_peer_context: PeerContext,
) -> Iterator[TLSPeers]:
    """Provide a function that starts misbehaving peers, and end them; see `TLSPeers`."""
    timeout = float(request.config.getini("tls_peer_timeout"))
    peers = TLSPeers(ca=tls_ca, address=tls_listen_address, context=tls_peer_context, timeout=timeout)
    request.node.stash[_peers] = peers
    yield peers
    peers.end()


@pytest.fixture
def tls_ending(request: pytest.FixtureRequest) -> TLSEnding:
    """Return one of the endings that the mark `tls_endings` chooses; the test runs with each; see `TLSEnding`."""
    ending: TLSEnding = request.param
    return ending


# -- hooks ------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the plugin's setting."""
    parser.addini("tls_peer_timeout", _TIMEOUT, default="10")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the plugin's mark, and find out what the terminal can show."""
    config.addinivalue_line("markers", _MARK)
    config.stash[_style] = TerminalStyle.of(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Pass the terminal's style to a worker of pytest-xdist, which has no terminal."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]  # xdist's, which may not be there
    config.stash[_style].tell(node.workerinput)  # type: ignore[attr-defined]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `tls_ending` once for each chosen ending."""
    mark = metafunc.definition.get_closest_marker("tls_endings")
    if "tls_ending" in metafunc.fixturenames:
        args, kwargs = (mark.args, mark.kwargs) if mark else ((), {})
        metafunc.parametrize("tls_ending", chosen(args, kwargs), indirect=True)
    elif mark is not None and mark in metafunc.definition.own_markers:
        pytest.fail("the mark tls_endings does nothing for a test without the fixture tls_ending", pytrace=False)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """End the peers that the test itself has started, so that an unmet expectation is a failure of the test."""
    __tracebackhide__ = True
    peers = item.stash.get(_peers, None)
    if peers is None:
        return (yield)
    peers.call()
    try:
        result = yield
    except BaseException as error:
        peers.end_call(error)
        if isinstance(error, KeyboardInterrupt):
            item.config.stash[_interrupted] = list(peers.sections(item.config.stash[_style], error))
        raise
    peers.end_call()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the peers saw, if a phase of the test has failed."""
    report = yield
    peers = item.stash.get(_peers, None)
    if peers is not None and report.failed:
        error = call.excinfo.value if call.excinfo is not None else None
        for title, text in peers.sections(item.config.stash[_style], error):
            _add_section(report, title, text)
    if peers is not None and call.when == "teardown":
        del item.stash[_peers]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the peers saw of a test that Ctrl-C ended: it has no report of its own, and may have hung."""
    for title, text in config.stash.get(_interrupted, ()):
        terminalreporter.section(title, "-")
        terminalreporter.write_line(text)


def _add_section(report: pytest.TestReport, title: str, text: str) -> None:
    """Add it to the traceback, if there is one, so that a JUnit file has it, too; else to the captured output."""
    add = getattr(report.longrepr, "addsection", None)
    if add is not None:
        add(title, text)
    else:
        report.sections.append((title, text))
