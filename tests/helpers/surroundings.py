"""What the machine of a developer may be set to, and no test may depend on: it is forgotten before the first test."""

from __future__ import annotations

import os
import re
import tempfile
from typing import Final

#: Variables of the environment that change what a test, or a program that it starts, does or says.
_UNWANTED: Final = re.compile(
    r"""
    SSLKEYLOGFILE | SSL_CERT_(FILE|DIR)                                 # whom we trust, and a file that stays open
    | (https?|ftp|all|no)_proxy                                         # curl, requests and aiohttp would ask it
    | PYTHON(WARNINGS|ASYNCIODEBUG|OPTIMIZE|INSPECT|STARTUP|VERBOSE|DEVMODE|TRACEMALLOC|PROFILEIMPORTTIME)
    | PYTHON(IOENCODING|UTF8|UNBUFFERED|SAFEPATH)                       # of the processes that tests start
    | PYTEST_ADDOPTS | (NO|FORCE|PY|CLI)_?COLOR\w* | COLUMNS | LINES     # of the suites that tests run
    | LISTEN_(FDS|PID|FDNAMES) | NOTIFY_SOCKET                          # systemd's, of somebody else
    | LANG(UAGE)? | LC_\w+                                              # in which programs say what they say
    | GO\w+ | CGO_\w+ | NODE_\w+ | J(AVA|DK_JAVA)_(TOOL_)?OPTIONS | _JAVA_OPTIONS | CLASSPATH
    | CURL_\w+ | GNUTLS_\w+ | STUNNEL_\w+ | SOCAT_\w+ | PG\w+ | MYSQL_\w+ | LDAP\w+ | EXIM_\w+
    """,
    re.VERBOSE | re.IGNORECASE,
)

#: The path of a Unix socket has 107 bytes at most, and pytest puts some 60 behind the directory for temporary files.
_LONGEST: Final = 40


def forget() -> None:
    """Take it out of the environment, and set what every program needs.

    The suites that tests run load bowout's plugin, and none that happens to be installed beside it.
    """
    for name in [name for name in os.environ if _UNWANTED.fullmatch(name)]:
        del os.environ[name]
    os.environ |= {"LC_ALL": "C.UTF-8", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_bowout"}
    os.environ.setdefault("PATH", os.defpath)
    os.environ.setdefault("TERM", "dumb")
    os.umask(0o022)
    if len(tempfile.gettempdir()) > _LONGEST:
        os.environ["TMPDIR"] = "/tmp"
        tempfile.tempdir = None  # it is to look again
