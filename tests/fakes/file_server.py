"""A web server of files, on loopback, that can break off in the middle of one."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FileServer:
    """Serves *files*, by their path with its query and without the slash at its start.

    Attributes:
        halting: Those whose second half waits for a client that does not, but not for long.
        cut: Those of which only the first half is sent, before the connection ends.
        redirects: Where else to look: path → address.
        headers: What every answer has beside the usual.
        requested: The paths that were asked for, in order.
    """

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    halting: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve on a free port until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server looks for
            name = self.path[1:]
            served.requested.append(name)
            if name in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[name])
                self.end_headers()
                return
            body = served.files.get(name)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            for header, value in served.headers.items():
                self.send_header(header, value)
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            if name in served.halting:
                select.select([self.connection], [], [], 0.2)
            if name not in served.cut:
                self.wfile.write(body[half:])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = FileServer(server.server_port)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield served
        finally:
            server.shutdown()
            serving.join()
