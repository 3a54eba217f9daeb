"""A registry with one image, that gives its layer when it is told to."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

SIZE: Final = 3_000_000
"""Of the layer: enough for the engine to tell how far it is."""

_MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


class ImageRegistry:
    """What the engine is served.

    Attributes:
        asked: How often for what: ``manifest`` or ``layer``.
        go_on: The second half of the layer waits for it.
        image: The name by which it can be pulled; set when it serves.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        self.image = ""
        self._layer, digest = _layer()
        self._blobs = {_digest(self._layer): self._layer}
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/file"]},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": self._describe(
                "application/vnd.docker.container.image.v1+json", json.dumps(config).encode()
            ),
            "layers": [
                self._describe("application/vnd.docker.image.rootfs.diff.tar.gzip", self._layer)
            ],
        }
        self._manifest = json.dumps(manifest).encode()

    def _describe(self, kind: str, blob: bytes) -> dict[str, str | int]:
        self._blobs[_digest(blob)] = blob
        return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ImageRegistry]:
        """On a port of loopback, which engines trust without TLS."""
        app = web.Application()
        app.router.add_get("/v2/", self._hello)
        app.router.add_get("/v2/image/manifests/{reference}", self._give_manifest)
        app.router.add_get("/v2/image/blobs/{digest}", self._give_blob)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            self.image = f"127.0.0.1:{port}/image:latest"
            yield self
        finally:
            await runner.cleanup()

    async def _hello(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def _give_manifest(self, _request: web.Request) -> web.Response:
        self.asked["manifest"] += 1
        return web.Response(
            body=self._manifest,
            content_type=_MANIFEST_TYPE,
            headers={"Docker-Content-Digest": _digest(self._manifest)},
        )

    async def _give_blob(self, request: web.Request) -> web.StreamResponse:
        blob = self._blobs[request.match_info["digest"]]
        response = web.StreamResponse(headers={"Content-Length": str(len(blob))})
        await response.prepare(request)
        if blob is self._layer:
            self.asked["layer"] += 1
            await response.write(blob[: SIZE // 2])
            await self.go_on.wait()
            blob = blob[SIZE // 2 :]
        await response.write(blob)
        return response


def _layer() -> tuple[bytes, str]:
    """Compressed, and the digest of what is compressed; never the same one twice."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = SIZE
        tar.addfile(entry, io.BytesIO(os.urandom(SIZE)))
    return gzip.compress(packed.getvalue(), 1), _digest(packed.getvalue())


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
