"""The models of messages, which are made in two steps."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def test_models_wait_for_their_first_use_and_can_be_completed_before_it(
    repository_root: Path,
) -> None:
    code = textwrap.dedent(
        """
        import executor.bootstrap.local
        from shared.protocol.execution import ExecutionRequest
        from shared.protocol.local import Payload, Register
        from shared.protocol.part import Part, complete

        models = (Register, ExecutionRequest)
        print([model.__pydantic_complete__ for model in models])
        complete(Part)
        complete(Payload)
        print([model.__pydantic_complete__ for model in models])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.stdout == "[False, False]\n[True, True]\n", done.stderr
