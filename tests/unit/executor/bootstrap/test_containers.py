"""Local mode on a machine without an engine for containers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from executor.agents.claude_code.location import ClaudeSearch
from executor.bootstrap.containers import with_containers
from executor.bootstrap.home import opened_home
from executor.bootstrap.runs import Means, in_process
from executor.config.local import LocalSettings
from executor.signals import StopSignals
from executor.tasks.isolation import IsolationRules
from shared.protocol.execution import Isolation


async def look(folder: Path) -> tuple[bool, str | None]:
    """Look for an engine whose socket is missing; whether runs have containers, and why not."""
    settings = await asyncio.to_thread(
        LocalSettings,
        WEGENT_EXECUTOR_HOME=folder / "home",
        WEGENT_BACKEND_URL="https://backend.example",
        WEGENT_AUTH_TOKEN="t",
    )
    isolation = IsolationRules(Isolation.NONE, None)
    environ = {"DOCKER_HOST": f"unix://{folder}/none.sock", "DOCKER_CONFIG": str(folder)}
    means = Means(environ, isolation, ClaudeSearch(None, (), ""), has_agno=False)
    stop = StopSignals()
    async with opened_home(settings, stop) as home:
        assert home is not None
        handler = in_process(
            settings, means, home.state, answerable=lambda: False, backend_url=None
        ).handler
        async with with_containers(
            handler, settings, means, home, [], stop, unfinished=list, follow=lambda _: None
        ) as carried:
            return carried.handler is not handler, isolation.containers.problem


async def test_a_task_that_wants_a_container_is_told_where_no_engine_listens(
    tmp_path: Path,
) -> None:
    has, problem = await look(tmp_path)

    assert not has
    assert problem == f"no Docker engine listens at {tmp_path}/none.sock"


def test_nothing_of_containers_is_loaded_then(tmp_path: Path, repository_root: Path) -> None:
    looked = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from tests.unit.executor.bootstrap.test_containers import look
        assert asyncio.run(look(Path(sys.argv[1])))[1]
        there = {"aiodocker", "executor.tasks.containers.handler", "shared.containers.pool"}
        print(there & set(sys.modules))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", looked, str(tmp_path)],
        cwd=repository_root,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.stdout == "set()\n", done.stderr
