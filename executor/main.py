"""Entry of the executor: ``python -m executor.main`` or ``python executor/main.py``."""

import sys
from pathlib import Path

if not __package__:
    # Started as a script: this folder comes first on the path, and its config.py, signals.py and
    # others would be found where another package's are meant. Its parent belongs there instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from executor.cli import main

if __name__ == "__main__":
    sys.exit(main())
