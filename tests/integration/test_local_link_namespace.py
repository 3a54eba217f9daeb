"""A Socket.IO server without our namespace is the wrong address, not a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import socketio
from pydantic import SecretStr

from executor.modes.local.websocket_client import WebSocketClient
from shared.errors import LinkLost, LinkRejected
from shared.protocol.local import NAMESPACE
from tests.fakes.backend import FakeBackend, open_backend


async def ignore(_event: str, _raw: object) -> dict[str, Any]:
    return {}


def refusing_with(*reason: object) -> FakeBackend:
    backend = FakeBackend()

    async def refuse(_sid: str, _environ: object, _auth: object) -> None:
        raise socketio.exceptions.ConnectionRefusedError(*reason)

    backend.sio.on("connect", refuse, namespace=NAMESPACE)
    return backend


def without_the_namespace() -> FakeBackend:
    backend = FakeBackend()
    del backend.sio.handlers[NAMESPACE]
    return backend


async def test_a_missing_namespace_is_a_loss_that_names_it() -> None:
    backend = without_the_namespace()
    async with asyncio.timeout(30), open_backend(backend):
        with pytest.raises(LinkLost, match=f"speaks Socket.IO, but has no {NAMESPACE}"):
            async with WebSocketClient(backend.url, SecretStr("token")).connect(ignore):
                pass


async def test_another_librarys_words_for_a_missing_namespace_are_understood() -> None:
    backend = refusing_with("Invalid namespace")
    async with asyncio.timeout(30), open_backend(backend):
        with pytest.raises(LinkLost, match=f"speaks Socket.IO, but has no {NAMESPACE}"):
            async with WebSocketClient(backend.url, SecretStr("token")).connect(ignore):
                pass


async def test_a_refusal_without_a_reason_is_still_a_refusal() -> None:
    backend = refusing_with()
    async with asyncio.timeout(30), open_backend(backend):
        with pytest.raises(LinkRejected):
            async with WebSocketClient(backend.url, SecretStr("token")).connect(ignore):
                pass
