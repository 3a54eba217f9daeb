"""FakeS3: an object storage on loopback that takes single PUTs, as real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class FakeS3:
    """Keeps what is stored, by ``bucket/key``."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        """Every key stored, in order, repeats included."""
        self.authorizations: set[str] = set()
        """The access keys that requests were signed with."""
        self.refuse = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _put(self, request: web.Request) -> web.Response:
        signed = request.headers.get("Authorization", "")
        self.authorizations.add(signed.partition("Credential=")[2].partition("/")[0])
        content = await request.read()
        if self.refuse:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        key = request.match_info["key"]
        self.objects[key] = content
        self.puts.append(key)
        return web.Response(headers={"ETag": '"e"'})


@asynccontextmanager
async def running_s3() -> AsyncIterator[FakeS3]:
    """One that runs until the end of the context."""
    storage = FakeS3()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_put("/{key:.+}", storage._put)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        storage.port = runner.addresses[0][1]
        yield storage
    finally:
        await runner.cleanup()
