"""The manager's start: what is done before anything can reach it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def test_no_message_waits_until_validators_are_made(tmp_path: Path, repository_root: Path) -> None:
    opened = textwrap.dedent(
        """
        import executor_manager.app
        from executor_manager.main import main
        from shared.protocol.execution import ExecutionRequest
        from shared.protocol.local import Register

        def open_manager(*_):
            print([model.__pydantic_complete__ for model in (ExecutionRequest, Register)])
            raise KeyboardInterrupt
        executor_manager.app.open_manager = open_manager
        main()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", opened],
        cwd=repository_root,
        env={**os.environ, "MANAGER_HOME": str(tmp_path), "MANAGER_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.stdout == "[True, True]\n", done.stderr
