"""Reads Server-Sent Events as a browser does."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Received:
    """One event, or a comment, whose name is then empty."""

    id: str | None = None
    name: str = ""
    data: Any = None
    comment: str | None = None


async def read_stream(response: aiohttp.ClientResponse) -> AsyncGenerator[Received]:
    """Everything that comes until the server ends the stream."""
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\r\n")
        if line.startswith(":"):
            yield Received(comment=line[1:].strip())
        elif line:
            name, _, value = line.partition(": ")
            assert name not in fields, "one line of each field"
            fields[name] = value
        elif fields:
            yield Received(fields.get("id"), fields["event"], json.loads(fields["data"]))
            fields = {}
