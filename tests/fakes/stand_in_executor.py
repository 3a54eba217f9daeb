"""``python stand_in_executor.py HOME STATUS``: says at the control socket what it was given.

STATUS is a JSON object, the answer to ``status``; the pid is added unless it has one. Ends on
SIGTERM. Only the standard library, so that it starts at once.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    home, status = Path(sys.argv[1]), {"pid": os.getpid()} | json.loads(sys.argv[2])
    place, opened = home / "control.sock", home / ".control.sock.new"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        opened.unlink(missing_ok=True)
        server.bind(str(opened))
        server.listen()
        opened.replace(place)
        while True:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(json.dumps({"ok": True, "result": status}).encode() + b"\n")


main()
