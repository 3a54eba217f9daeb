"""A small client of the executor manager's HTTP API, for the programs in this folder."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, Self

import aiohttp

Event = dict[str, Any]
"""One AgentEvent as the stream shows it: ``sequence``, ``event``, ``source``, ``data`` …"""


class ApiError(Exception):
    """The manager refused, or did not answer; the text is for the person in front."""


class ManagerClient:
    """An async context manager around one HTTP session."""

    def __init__(self, url: str, token: str) -> None:
        # An executor's WEGENT_BACKEND_URL may be ws(s); it is the same server.
        self.url = "http" + url[2:].rstrip("/") if url.startswith("ws") else url.rstrip("/")
        self._token = token
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=2**20,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def nodes(self) -> list[dict[str, Any]]:
        """The registered executors."""
        answer: list[dict[str, Any]] = (await self._call("GET", "/api/v1/nodes"))["nodes"]
        return answer

    async def create_task(
        self, prompt: str, config: dict[str, Any], session_id: str | None = None
    ) -> dict[str, Any]:
        """Schedule a run; ``task_id`` in the answer names it."""
        body: dict[str, Any] = {"user_id": "local", "prompt": prompt, "config": config}
        if session_id is not None:
            body["session_id"] = session_id
        return await self._call("POST", "/api/v1/tasks", body)

    async def task(self, task_id: str) -> dict[str, Any]:
        """Where a run stands."""
        return await self._call("GET", f"/api/v1/tasks/{task_id}")

    async def cancel(self, task_id: str, reason: str) -> dict[str, Any]:
        """Ask for a run to be stopped."""
        return await self._call("POST", f"/api/v1/tasks/{task_id}/cancel", {"reason": reason})

    async def answer(self, task_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer what a run waits for: ``{"request_id", "decision", "answers"?, "message"?}``."""
        return await self._call("POST", f"/api/v1/tasks/{task_id}/input", body)

    async def events(self, task_id: str) -> AsyncGenerator[Event]:
        """Every event of a run from its first to its verdict, as they come."""
        try:
            async with self._session.get(f"{self.url}/api/v1/tasks/{task_id}/events") as response:
                await self._check(response)
                name, data = "", ""
                async for raw in response.content:
                    line = raw.decode().rstrip("\r\n")
                    if line.startswith("event:"):
                        name = line[6:].strip()
                    elif line.startswith("data:"):
                        data += line[5:].strip()
                    elif not line and data:
                        if name == "close":
                            return
                        yield json.loads(data)
                        name, data = "", ""
        except aiohttp.ClientError as exc:
            raise self._no_answer(exc) from exc
        raise ApiError(f"{self.url} ended the stream before the run had ended")

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("use the client as a context manager")
        return self._http

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        try:
            async with self._session.request(method, self.url + path, json=body) as response:
                await self._check(response)
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._no_answer(exc) from exc

    def _no_answer(self, exc: Exception) -> ApiError:
        return ApiError(f"no answer from {self.url}: {str(exc) or type(exc).__name__}")

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.ok:
            return
        try:
            error = (await response.json())["error"]
            text = error["message"] + (f" ({error['hint']})" if error.get("hint") else "")
        except (ValueError, KeyError, TypeError, aiohttp.ClientError):
            text = response.reason or ""
        raise ApiError(f"{self.url} answered {response.status}: {text}")
