"""Entry of the executor: ``python -m executor.main`` or ``python executor/main.py``.

``uvicorn executor.main:app`` serves docker mode, too.
"""

import sys
from typing import Any, NoReturn

if not __package__ and not hasattr(sys, "frozen"):
    from pathlib import Path

    # Started as a script: this folder comes first on the path, and its archive.py, signals.py and
    # others would be found where another package's are meant. Its parent belongs there instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)


def main() -> NoReturn:
    """Carry out the command of this process, and end the process with its exit status."""
    from executor import early_signals
    from executor.packaged import frozen

    early_signals.stop_at_once()  # before the imports that take their time
    frozen.restore_environment()
    from executor import cli

    cli.leave(cli.main())


def __getattr__(name: str) -> Any:
    """``app``, made when it is asked for: nothing else needs a web server."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from executor.bootstrap.asgi import build_app

    globals()["app"] = build_app()
    return globals()["app"]


if __name__ == "__main__":
    main()
