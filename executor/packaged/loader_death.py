"""End with the loader: whoever kills the process that was started means the program.

A single file is two processes, of which the one that was started only waits for the other. It hands
signals on, but nobody can hand on SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1

if sys.platform == "linux":

    def end_with(loader: int) -> None:
        """From now on the end of the process *loader*, this one's parent, ends this process."""
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != loader:  # it was over before the system knew that it matters
            _end()

elif sys.platform == "win32":

    def end_with(loader: int) -> None:
        """From now on the end of the process *loader*, this one's parent, ends this process."""
        import ctypes

        synchronize, forever = 0x00100000, 0xFFFFFFFF
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(synchronize, False, loader)
        if not handle:
            _end()

        def wait() -> None:
            kernel.WaitForSingleObject(handle, forever)
            _end()

        threading.Thread(target=wait, name="loader", daemon=True).start()

else:

    def end_with(loader: int) -> None:
        """From now on the end of the process *loader*, this one's parent, ends this process."""
        import select

        queue = select.kqueue()
        event = select.kevent(
            loader,
            filter=select.KQ_FILTER_PROC,
            flags=select.KQ_EV_ADD,
            fflags=select.KQ_NOTE_EXIT,
        )
        try:
            queue.control([event], 0)
        except ProcessLookupError:
            _end()

        def wait() -> None:
            queue.control(None, 1)
            _end()

        threading.Thread(target=wait, name="loader", daemon=True).start()


def _end() -> NoReturn:
    """As abruptly as the loader has ended, which cannot be asked to wait for anything."""
    if sys.platform != "win32":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)
