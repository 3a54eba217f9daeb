"""One program's wall clock can be stepped while it runs; its monotonic clock goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench._wall_clock import NoCompiler, WallClock

SAY_TIMES = """
import datetime, json, sqlite3, sys, time
for _ in sys.stdin:
    seconds, = sqlite3.connect(":memory:").execute("SELECT unixepoch()").fetchone()
    times = [time.time(), datetime.datetime.now().timestamp(), seconds, time.monotonic()]
    print(json.dumps(times), flush=True)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="NOTHING WAS TESTED: there is no cc")
def test_every_wall_clock_of_the_program_steps_and_no_other(tmp_path: Path) -> None:
    clock = WallClock(tmp_path, "program")
    program = subprocess.Popen(
        [sys.executable, "-c", SAY_TIMES],
        env={**os.environ, **clock.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdin is not None and program.stdout is not None
        for shift in (0, 7200, -3600):
            clock.step(shift)
            before = time.time()
            program.stdin.write("\n")
            program.stdin.flush()
            *wall, monotonic = json.loads(program.stdout.readline())
            assert all(-1 <= seen - before - shift <= 60 for seen in wall), (shift, wall)
            assert abs(monotonic - time.monotonic()) < 60
        program.stdin.close()


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompiler, match="there is no cc"):
        WallClock(tmp_path, "program")
