"""The short version of ``bench/chaos.py``: some of every fault, and every run is whole."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.chaos import chaos

SEED = 20_260_101
COUNTS = {
    "cut": 15,
    "freeze": 1,
    "slow": 2,
    "refuse": 2,
    "kill manager": 1,
    "kill executor": 2,
    "kill agent": 2,
    "drain executor": 2,
    "clock step": 3 if shutil.which("cc") is not None else 0,
}


@pytest.mark.timeout(300)
async def test_no_run_is_lost_doubled_or_damaged_by_cuts_and_kills(tmp_path: Path) -> None:
    outcome = await chaos(tmp_path, seed=SEED, seconds=15, counts=COUNTS)
    assert outcome.violations == []
    assert outcome.faults == Counter(COUNTS)
    # How many runs there are depends on the machine; that faults find them under way does not.
    assert any(state == "completed" for state, _ in outcome.verdicts)
    assert outcome.ways["went on after a restart"] > 0
