"""The pytest plugin, in small suites of their own processes, as a user's."""

from __future__ import annotations

import importlib.metadata
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import bowout.testing  # noqa: F401  (else each suite in this process imports it anew)

TESTS: Final = Path(__file__).parents[1]

#: What tells at the end of a suite whether it has left something open.
CONFTEST: Final = """
import sys, threading
import pytest
from helpers.leaks import open_fds

def pytest_sessionstart(session):
    session.held = open_fds(), threading.enumerate()

@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    fds, threads = session.held
    # Where Ctrl-C strikes, the capture of the first three is not yet undone.
    left = [kind for fd, kind in open_fds().items() if fd > 2 and fds.get(fd) != kind]
    left += [thread.name for thread in threading.enumerate() if thread not in threads]
    print("left open:", left)
"""

#: A client that reads what comes, says its piece and leaves without close_notify.
CLIENT: Final = """
import signal, socket, ssl
import pytest

def read_all(peer, say=b""):
    with socket.create_connection(peer.address) as sock:
        with peer.client_context().wrap_socket(sock, server_hostname="localhost") as stream:
            stream.sendall(say)
            data = b""
            while chunk := stream.recv(4096):
                data += chunk
            return data
"""

Suite = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Run the text of a test file, with strict marks; ``apart`` in a process of its own, which takes seconds."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(text: str, *args: str, conftest: str = "", apart: bool = False) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST + conftest)
        pytester.makepyfile(CLIENT + text)
        workers = ("-p", "xdist") if "-n" in args else ()
        args = ("-p", "no:cacheprovider", "-p", "no:cov", *workers, "--strict-markers", "-W", "error", *args)
        return pytester.runpytest_subprocess(*args, timeout=250) if apart else pytester.runpytest_inprocess(*args)

    return run


def test_pytest_finds_it_where_it_is_installed() -> None:
    (found,) = importlib.metadata.entry_points(group="pytest11", name="bowout")
    assert found.value == "pytest_bowout"


def left_nothing(result: pytest.RunResult) -> bool:
    return "left open: []" in result.stdout.str()


class TestPluginPeers:
    def test_are_started_and_ended(self, suite: Suite) -> None:
        result = suite("""
def test_two(tls_peer):
    first, second = tls_peer("close_notify_then_fin"), tls_peer("close_notify_then_fin", tls="1.2")
    assert read_all(first) == read_all(second) == first.entry.sends
    assert [peer.wait().tls_version for peer in (first, second)] == ["TLSv1.3", "TLSv1.2"]

def test_as_a_client(tls_peer, tls_server_context):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tls_peer("close_notify_then_fin", role="client", connect_to=listener.getsockname())
        with listener.accept()[0] as sock, tls_server_context.wrap_socket(sock, server_side=True) as stream:
            assert stream.recv(100) == b"hello, and well met\\n"
            assert stream.recv(100) == b""

def test_with_what_is_at_hand(tls_peer, tls_client_context, tls_ca_file):
    peer = tls_peer("close_notify_then_fin", connections=2)
    for context in (tls_client_context, ssl.create_default_context(cafile=tls_ca_file)):
        with socket.create_connection(peer.address) as sock:
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as stream:
                assert stream.recv(5) == b"hello"
""")
        result.assert_outcomes(passed=3)
        assert left_nothing(result)

    def test_take_listening_address_context_and_time_of_the_project(self, suite: Suite) -> None:
        conftest = """
@pytest.fixture
def tls_listen_address():
    return "127.0.0.2", 0

@pytest.fixture
def tls_peer_context(tls_server_context):
    def context(role, tls):
        assert (role, tls) == ("server", None)
        tls_server_context.set_ciphers("ECDHE+CHACHA20")
        tls_server_context.maximum_version = tls_server_context.maximum_version.TLSv1_2
        return tls_server_context
    return context
"""
        text = """
def test_it(tls_peer):
    peer = tls_peer("close_notify_then_fin", tls="any", server_hostname="peer.test")
    assert peer.host == "127.0.0.2"
    read_all(peer)
    assert "CHACHA20" in peer.wait().cipher
    assert tls_peer._timeout == 3.5
"""
        suite(text, "-o", "tls_peer_timeout=3.5", conftest=conftest).assert_outcomes(passed=1)

    def test_refuse_what_is_not_there(self, suite: Suite) -> None:
        result = suite("""
def test_it(tls_peer):
    tls_peer("fin_inside_recrod")
""")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*there is no ending 'fin_inside_recrod'; did you mean fin_inside_record*"])
        result.stdout.no_fnmatch_line("*_peer.py*")  # it is the test's line that is wrong


SCRIPTS: Final = """
def wants_close_notify(act):
    act.handshake()
    act.close_notify()
    act.expect_close_notify()  # the line that is shown

def mistaken(act):
    raise KeyError("mine")
"""


class TestScripts:
    def test_that_expect_something_else_fail_the_test(self, suite: Suite) -> None:
        result = suite(f"""{SCRIPTS}
def test_it(tls_peer):
    read_all(tls_peer(wants_close_notify))
""")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                ">       act.expect_close_notify()  # the line that is shown",
                "E       *ExpectationFailed: expected close_notify, and FIN came",
                "E       in the script of the TLS peer wants_close_notify",
                "*TLS peer wants_close_notify*",
            ]
        )
        assert "_peers.py" not in result.stdout.str()
        assert left_nothing(result)

    def test_all_of_them_are_told(self, suite: Suite) -> None:
        result = suite(f"""{SCRIPTS}
def test_it(tls_peer):
    first, second = tls_peer(mistaken), tls_peer(wants_close_notify)
    with pytest.raises(OSError):
        read_all(first)
    read_all(second)
""")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E       KeyError: 'mine'", "E       and in that of wants_close_notify: Expect*"])

    def test_do_not_hide_why_the_test_failed(self, suite: Suite) -> None:
        result = suite(f"""{SCRIPTS}
def test_it(tls_peer):
    read_all(tls_peer(wants_close_notify))
    assert "this" == "that"
""")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*assert 'this' == 'that'", "*the script stopped: expected close_notify*"])

    def test_do_not_fail_a_test_that_is_skipped(self, suite: Suite) -> None:
        suite(f"""{SCRIPTS}
def test_it(tls_peer):
    read_all(tls_peer(wants_close_notify))
    pytest.skip("enough")
""").assert_outcomes(skipped=1)

    def test_of_a_fixture_end_in_its_teardown(self, suite: Suite) -> None:
        """The client of the fixture outlives the test, so its close_notify must still be met."""
        text = f"""{SCRIPTS}
@pytest.fixture
def client(tls_peer, tls_client_context):
    peer = tls_peer(wants_close_notify)
    with socket.create_connection(peer.address) as sock:
        with tls_client_context.wrap_socket(sock, server_hostname="localhost") as stream:
            yield stream
            if GOOD:
                stream.unwrap()

def test_it(client):
    assert client.recv(1) == b""
"""
        suite(text.replace("GOOD", "True")).assert_outcomes(passed=1)
        bad = suite(text.replace("GOOD", "False"))
        bad.assert_outcomes(passed=1, errors=1)
        bad.stdout.fnmatch_lines(["*expected close_notify, and FIN came", "*TLS peer wants_close_notify*"])


FAILING: Final = """
def test_it(tls_peer):
    read_all(tls_peer("fin_at_boundary"))
    assert not "done"
"""


class TestLadders:
    def test_are_shown_where_a_test_fails(self, suite: Suite) -> None:
        result = suite(FAILING)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*- TLS peer fin_at_boundary -*", "fin_at_boundary (server, *", "*◄╍*bare FIN*"])

    def test_are_not_shown_where_it_passes(self, suite: Suite) -> None:
        result = suite(FAILING.replace("not ", ""), "-rA")
        result.assert_outcomes(passed=1)
        assert "TLS peer" not in result.stdout.str()

    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
    def test_suit_the_terminal(self, suite: Suite, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]) -> None:
        monkeypatch.setenv("COLUMNS", "64")
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        result = suite(FAILING, *workers, apart=True)
        result.assert_outcomes(failed=1)
        drawn = [line for line in result.outlines if line.endswith("|")]
        assert any("bare FIN" in line for line in drawn)
        assert {len(line) for line in drawn} == {64}
        assert result.stdout.str().isascii()

    def test_are_in_a_junit_file(self, suite: Suite, pytester: pytest.Pytester) -> None:
        suite(FAILING, "--junitxml=junit.xml").assert_outcomes(failed=1)
        failure = ET.parse(pytester.path / "junit.xml").find(".//failure")
        assert failure is not None
        assert "TLS peer fin_at_boundary" in (failure.text or "")

    def test_of_a_fixture_whose_setup_fails_are_shown(self, suite: Suite) -> None:
        result = suite("""
@pytest.fixture
def data(tls_peer):
    read_all(tls_peer("fin_at_boundary"))
    raise ValueError("bad data")

def test_it(data): pass
""")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*bad data*", "*TLS peer fin_at_boundary*"])
        assert left_nothing(result)

    def test_are_shown_of_a_known_failure_that_is_none(self, suite: Suite) -> None:
        """Its report has no traceback to go with."""
        result = suite(f"@pytest.mark.xfail(strict=True)\n{FAILING.replace('not ', '').lstrip()}")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*XPASS(strict)*", "*TLS peer fin_at_boundary*"])

    def test_of_many_connections_are_few(self, suite: Suite) -> None:
        result = suite("""
def test_it(tls_peer):
    peer = tls_peer("fin_at_boundary", connections=None)
    for _ in range(60):
        read_all(peer)
    assert not "done"
""")
        assert result.stdout.str().count("bare FIN") < 20
        result.stdout.fnmatch_lines(["*TLS peer fin_at_boundary #3*", "*further connections*", "and 6 more"])

    def test_show_nothing_raw_of_what_came(self, suite: Suite) -> None:
        result = suite(r"""
def wants_hello(act):
    act.handshake()
    act.expect_data(b"hello")
    act.close_notify()

def test_it(tls_peer):
    read_all(tls_peer(wants_hello), say=b"\x1b[2Jx")
""")
        result.assert_outcomes(failed=1)
        assert r"\x1b[2Jx" in result.stdout.str()
        assert "\x1b" not in result.stdout.str()


class TestNothingIsLeft:
    @pytest.mark.parametrize("what", ["raise ValueError", "pytest.skip('enough')", "pytest.exit('enough')"])
    def test_by_a_test_that_ends_so(self, suite: Suite, what: str) -> None:
        result = suite(
            f"""
def test_it(tls_peer):
    peer = tls_peer("silent_after_close_notify", connections=None)
    with socket.create_connection(peer.address) as sock:
        {what}
""",
            apart="exit" in what,
        )
        assert left_nothing(result), result.stdout.str()

    def test_by_ctrl_c_while_it_hangs(self, suite: Suite) -> None:
        result = suite(
            """
import threading
hangs = threading.Event()

def hang(act):
    act.handshake()
    act.read_exactly(1)  # its client is in its block
    hangs.set()
    act.silence()

def test_it(tls_peer):
    tls_peer("never_reads")
    peer = tls_peer(hang)
    with socket.create_connection(peer.address) as sock:
        with peer.client_context().wrap_socket(sock, server_hostname="localhost") as stream:
            stream.sendall(b"?")
            assert hangs.wait(60)
            signal.raise_signal(signal.SIGINT)
""",
            apart=True,
        )
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*- TLS peer never_reads -*", "*- TLS peer hang -*", "*handshake done*"])
        assert left_nothing(result), result.stdout.str()

    def test_by_a_fixture_when_ctrl_c_comes(self, suite: Suite) -> None:
        result = suite(
            """
@pytest.fixture
def peer(tls_peer):
    return tls_peer("silent_after_close_notify")

def test_it(peer):
    raise KeyboardInterrupt
""",
            apart=True,
        )
        assert result.ret == pytest.ExitCode.INTERRUPTED
        assert left_nothing(result), result.stdout.str()


ENDINGS_TEST: Final = """
@pytest.mark.tls_endings({arguments})
def test_it(tls_ending, tls_peer):
    peer = tls_peer(tls_ending)
    assert tls_ending.expect.never_clean == (read_all(peer) is None)
    assert peer.entry is tls_ending.entry
    assert peer.wait().tls_version.endswith(tls_ending.tls)
"""


def collected(result: pytest.RunResult) -> list[str]:
    return re.findall(r"test_it\[(.+)\]$", result.stdout.str(), flags=re.MULTILINE)


class TestEndings:
    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
    def test_run_a_test_with_each(self, suite: Suite, workers: tuple[str, ...]) -> None:
        text = ENDINGS_TEST.format(arguments="names=['close-notify-*', 'rst_after_*'], rows={1, 6}")
        suite(text, *workers, apart=bool(workers)).assert_outcomes(passed=4)

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            ("rows=5, tls='1.2'", ["fin_inside_record-1.2", "fin_inside_header-1.2", "fin_inside_close_notify-1.2"]),
            (
                "rows=5, tls='1.2', without='fin-inside-header'",
                ["fin_inside_record-1.2", "fin_inside_close_notify-1.2"],
            ),
            ("you='half_close'", ["data_after_half_close-1.2", "data_after_half_close-1.3"]),
            ("rows=19, role='server', outcome='closed'", ["tickets_between_close_notify-1.3"]),
            ("rows=(21,), you=pytest.importorskip('bowout.testing').You.READ", ["renegotiation_then_close_notify-1.2"]),
        ],
    )
    def test_are_chosen(self, suite: Suite, arguments: str, names: list[str]) -> None:
        assert collected(suite(ENDINGS_TEST.format(arguments=arguments), "--collect-only", "-q")) == names

    def test_are_all_without_a_mark(self, suite: Suite) -> None:
        names = collected(suite("def test_it(tls_ending): pass", "--collect-only", "-q"))
        assert len(names) == len(set(names)) > 80

    def test_of_a_class_pass_by_those_who_do_not_take_them(self, suite: Suite) -> None:
        suite("""
@pytest.mark.tls_endings(rows=4)
class TestIt:
    def test_with(self, tls_ending): pass
    def test_without(self): pass
""").assert_outcomes(passed=3)

    def test_that_are_known_to_fail_are_strict(self, suite: Suite) -> None:
        result = suite("""
@pytest.mark.tls_endings(rows=4, xfail={"fin_at_boundary-1.2": "ssl hides it", "fin_at_boundary-1.3": "so it does"})
def test_it(tls_ending):
    assert tls_ending.tls == "1.3"
""")
        result.assert_outcomes(xfailed=1, failed=1)
        result.stdout.fnmatch_lines(["*XPASS(strict)*so it does*"])

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ("'fin_at_boundary'", "takes keyword arguments only"),
            ("name='fin_at_boundary'", "takes no argument 'name'; the arguments are role, tls,*"),
            ("names='fin_at_bondary'", "has names='fin_at_bondary', which no ending is called"),
            ("role='proxy'", "has role='proxy': it must be one of server, client"),
            ("tls='1.1'", "has tls='1.1': it must be one of 1.2, 1.3"),
            ("you='wait'", "has you='wait': it must be one of handshake,*"),
            ("rows=31", "leaves no ending to run with"),
            ("rows=4, xfail={'fin_inside_record': ''}", "has xfail='fin_inside_record', which none of its *"),
            ("rows=4, xfail='fin_at_boundary'", "has an xfail that is not a mapping of names to reasons"),
        ],
    )
    def test_are_not_chosen_by_mistake(self, suite: Suite, arguments: str, why: str) -> None:
        result = suite(ENDINGS_TEST.format(arguments=arguments))
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([f"*the mark tls_endings {why}"])

    def test_need_their_fixture(self, suite: Suite) -> None:
        result = suite("@pytest.mark.tls_endings()\ndef test_it(): pass")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*tls_endings does nothing for a test without the fixture tls_ending"])


#: Importing it fails as if it were not there.
WITHOUT: Final = "sys.modules['trustme'] = None\n"


class TestLoading:
    def test_imports_nothing(self, suite: Suite) -> None:
        result = suite(
            "def test_it(): pass",
            conftest="""
def pytest_unconfigure():
    print("plugin:", "pytest_bowout" in sys.modules)
    print("imported:", sorted({"bowout", "trustme", "cryptography"} & set(sys.modules)))
""",
            apart=True,
        )
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["plugin: True", "imported: []"])

    @pytest.mark.parametrize(
        "test",
        ["def test_it(tls_peer): pass", "def test_it(tls_ending): pass"],
    )
    def test_without_the_extra_is_harmless(self, suite: Suite, pytester: pytest.Pytester, test: str) -> None:
        pytester.makepyfile(test_other="def test_other(): pass")
        result = suite(test, "--continue-on-collection-errors", ".", conftest=WITHOUT, apart=True)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["*bowout.testing needs the package trustme: pip install 'bowout[[]testing[]]'*"])
        assert "Traceback" not in result.stdout.str()

    def test_can_be_forbidden(self, suite: Suite) -> None:
        result = suite("def test_it(tls_peer): pass", "-p", "no:bowout")
        result.stdout.fnmatch_lines(["*fixture 'tls_peer' not found*"])

    def test_is_told_by_pytest_itself(self, suite: Suite) -> None:
        result = suite("", "--markers", "--fixtures")
        assert "@pytest.mark.tls_endings(role='server'" in result.stdout.str()
