"""Stands in for the servers of :mod:`mcp`, which the executor does not run."""

from typing import Any


class Server:
    """A name that the SDK of Claude Code imports, for servers within the process."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError("this build has no MCP servers within the process")
