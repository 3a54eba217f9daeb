"""What takes a minute to make is made in the background, while tests run that do without it.

Whoever asks for it waits until it is there, or makes it: each maker is at work only once at a time
(:func:`tests.fakes.built_program.only_one`). So nothing is lost when this fails or comes late.

It is started apart from the tests, whose processes are counted, and ends with them: its standard
input is a pipe that nobody else has.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from tests.fakes import docker_base
from tests.fakes.built_program import ROOT, built_program

_MAKERS: Final[dict[str, Callable[[], object]]] = {
    "binary": built_program,
    "folder": partial(built_program, "--onedir"),
    "base": docker_base.archive,
}


@contextmanager
def made_ahead(what: Collection[str]) -> Iterator[None]:
    """Begin to make *what*: ``binary``, ``folder``, ``base``; the end of the block ends it."""
    if not what or shutil.which("setsid") is None:
        yield
        return
    apart = ["setsid", "--fork", "nice", "-n", "10"]
    with subprocess.Popen(
        [*apart, sys.executable, "-m", __name__, *(name for name in _MAKERS if name in what)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as started:
        started.wait()  # for the one that has forked it
        yield


def _end_with_the_tests() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)


def _clean_up(*_: object) -> None:
    sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _clean_up)
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    for name in sys.argv[1:]:
        _MAKERS[name]()
