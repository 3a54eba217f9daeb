"""What an HTTP client of this program needs to get to an address: its proxy, and whom to trust."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from executor.network.proxies import Proxies, is_loopback
from executor.network.trust import trusting_context
from shared.errors import ConfigError


class NetworkAccess:
    """The network as the variables of the environment describe it, for aiohttp."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.proxies = Proxies(environ)
        self._environ = dict(environ)
        self._trust: ssl.SSLContext | None = None

    async def options(self, url: str, *, followed: bool = False) -> dict[str, Any]:
        """Keyword arguments ``proxy`` and ``ssl`` for a request to *url*, ``http(s)``/``ws(s)``.

        IPv6 needs none: where it has no way out, aiohttp goes on with IPv4 after 0.25 s.

        Args:
            followed: Whether aiohttp itself follows a redirect. From an address without TLS that
                mostly leads to the same with it; on this machine's loopback it is not expected,
                since it costs each start the 40 ms in which authorities are read.

        Raises:
            ConfigError: A variable that is needed for *url* names nothing usable.
        """
        proxy = self.proxies.lead_to(url)
        options: dict[str, Any] = {"proxy": proxy.url if proxy is not None else None}
        if url.lower().startswith(("https:", "wss:")) or (proxy and proxy.url.scheme == "https"):
            options["ssl"] = await self._trusted()
        elif followed and not is_loopback(urlsplit(url).hostname or ""):
            with suppress(ConfigError):  # which is not needed as long as nothing leads to TLS
                options["ssl"] = await self._trusted()
        return options

    async def _trusted(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = await asyncio.to_thread(trusting_context, self._environ)
        return self._trust
