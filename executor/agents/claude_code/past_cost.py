"""What a conversation had cost before: a CLI that resumes it counts on from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from executor.agents.protocol import AgentJob

_TAIL_BYTES: Final = 256 * 2**10
"""The CLI writes its account at its end, so it is found there; a new one each time."""

_ACCOUNT: Final = b'"type":"cost-state"'


def past_cost_of(job: AgentJob) -> float:
    """What the conversation that *job* resumes has cost by now; 0.0 for a new one. Blocks."""
    if job.resume is None:
        return 0.0
    claude_dir = job.config_dir or Path(job.env.get("HOME", "~")) / ".claude"
    return past_cost_usd(claude_dir, job.resume)


def past_cost_usd(claude_dir: Path, session_id: str) -> float:
    """``total_cost_usd`` that the CLI restores with this conversation; 0.0: no account is found.

    *claude_dir* is the CLI's own folder, ``~/.claude`` as a rule. Blocks.
    """
    for transcript in (claude_dir / "projects").glob(f"*/{session_id}.jsonl"):
        try:
            with transcript.open("rb") as file:
                file.seek(max(0, transcript.stat().st_size - _TAIL_BYTES))
                accounts = [line for line in file if _ACCOUNT in line]
            if accounts:
                return max(0.0, float(json.loads(accounts[-1])["totalCostUSD"]))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return 0.0
