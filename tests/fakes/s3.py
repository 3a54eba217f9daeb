"""FakeS3: an object storage on loopback that takes files, whole or in parts, as real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

_XML = "<{0}Result><UploadId>u</UploadId><ETag>e</ETag></{0}Result>"


class FakeS3:
    """Keeps what is stored, by ``bucket/key``."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        """Every key stored, in order, repeats included."""
        self.authorizations: set[str] = set()
        """The access keys that requests were signed with."""
        self.refuse = False
        self._parts: dict[str, dict[int, bytes]] = {}
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _put(self, request: web.Request) -> web.Response:
        self._look_at(request)
        key, content = request.match_info["key"], await request.read()
        if (number := request.query.get("partNumber")) is not None:
            self._parts.setdefault(key, {})[int(number)] = content
        else:
            self._store(key, content)
        return web.Response(headers={"ETag": '"e"'})

    async def _post(self, request: web.Request) -> web.Response:
        """The beginning and the end of a file in parts."""
        self._look_at(request)
        key = request.match_info["key"]
        if "uploads" in request.query:
            return web.Response(text=_XML.format("InitiateMultipartUpload"))
        parts = self._parts.pop(key)
        self._store(key, b"".join(parts[number] for number in sorted(parts)))
        return web.Response(text=_XML.format("CompleteMultipartUpload"))

    def _look_at(self, request: web.Request) -> None:
        signed = request.headers.get("Authorization", "")
        self.authorizations.add(signed.partition("Credential=")[2].partition("/")[0])
        if self.refuse:
            raise web.HTTPForbidden(text="<Error><Code>AccessDenied</Code></Error>")

    def _store(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.puts.append(key)


@asynccontextmanager
async def running_s3() -> AsyncIterator[FakeS3]:
    """One that runs until the end of the context."""
    storage = FakeS3()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_put("/{key:.+}", storage._put)
    app.router.add_post("/{key:.+}", storage._post)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        storage.port = runner.addresses[0][1]
        yield storage
    finally:
        await runner.cleanup()
