"""What goes into the binary, what stays out of it, and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

HIDDEN_IMPORTS: Final = ("wegent_build",)
"""What is imported in ways that PyInstaller does not see, or is made for this build."""

EXCLUDED: Final[dict[str, str]] = {
    # Of the executor's own libraries: what it does not use.
    "frozenlist._frozenlist": "needs libstdc++, 2.2 MB; aiohttp's lists of hooks have few entries",
    "simple_websocket": "Socket.IO servers",
    "wsproto": "Socket.IO servers",
    "pydantic.v1": "models of another version",
    "pydantic.mypy": "a plugin of a type checker",
    "agno": "an extra: agents of agno run from an installation with it",
    "anthropic": "an extra, of agno",
    "openai": "an extra, of agno",
    "obstore": "an extra: object storage, 13 MB",
    "sqlalchemy": "the manager's store",
    "websockets": "uvicorn: a protocol that docker mode does not speak",
    "httptools": "uvicorn: another parser of HTTP",
    "uvicorn.workers": "uvicorn: below another server",
    "python_multipart": "starlette: forms",
    "starlette.testclient": "tests",
    "fastapi.testclient": "tests",
    "httpx": "tests of web services",
    "httpx2": "tests of web services, and MCP clients, which are left out",
    "httpcore2": "of httpx2",
    "h2": "of httpx2",
    "jinja2": "starlette: pages",
    "yaml": "configuration of uvicorn, schemas of starlette",
    "email_validator": "fastapi: addresses of e-mail",
    "pygments": "rich: colours for source code",
    "markdown_it": "rich: Markdown",
    "IPython": "rich: notebooks",
    "greenlet": "structlog: other threads of control",
    "trio": "anyio, on another event loop",
    "anyio._backends._trio": "anyio, on another event loop",
    "anyio.pytest_plugin": "anyio: tests",
    "uvloop": "anyio, on another event loop",
    "winloop": "anyio, on another event loop",
    "brotli": "aiohttp: an encoding that is not asked for",
    "brotlicffi": "aiohttp: an encoding that is not asked for",
    "aiodns": "aiohttp: another resolver",
    "cryptography": "MCP servers, which are left out; TLS is OpenSSL's",
    "hypothesis": "tests",
    "pytest": "tests",
    "_pytest": "tests",
    "mypy": "checks",
    "setuptools": "builds",
    "pkg_resources": "builds",
    # Of the standard library: what only its own odd corners import.
    "_pydecimal": "stands in for a compiled module that is there",
    "_pydatetime": "stands in for a compiled module that is there",
    "_pyio": "stands in for a compiled module that is there",
    "pdb": "debugging",
    "doctest": "tests",
    "unittest": "tests",
    "test": "tests",
    "pydoc": "help in a Python shell",
    "pydoc_data": "help in a Python shell",
    "tkinter": "windows",
    "turtle": "windows",
    "curses": "terminals",
    "readline": "a Python shell",
    "lib2to3": "conversion of source code",
    "ensurepip": "installation",
    "distutils": "installation",
    "xmlrpc": "another protocol",
    "ftplib": "another protocol",
    "imaplib": "another protocol",
    "poplib": "another protocol",
    "nntplib": "another protocol",
}
"""Modules that stay out, each with what they would be for."""

UNREAD: Final = frozenset(
    {
        "INSTALLER",
        "RECORD",
        "REQUESTED",
        "WHEEL",
        "issue.json",  # of jsonschema's benchmarks
    }
)
"""Files that packages bring and nobody reads: what an installer has noted. Each start of the file
would unpack them, and writing a file takes longer than its few bytes let one think."""

LOADER_HOOKS: Final = "pyi_rth_"
"""How PyInstaller names scripts of its own that would run before the program: for source code in
tracebacks, for listing packages and for child processes of the same program. The executor needs
none of that, and they cost 20 ms at each start."""

PURPOSES: Final[dict[str, str]] = {
    "libpython": "the interpreter",
    "python3": "the interpreter",
    "_codecs_cn": "text in Chinese, which systems there may use for everything",
    "_codecs_hk": "text in Chinese, which systems there may use for everything",
    "_codecs_tw": "text in Chinese, which systems there may use for everything",
    "_codecs_jp": "text in Japanese, which systems there may use for everything",
    "_codecs_kr": "text in Korean, which systems there may use for everything",
    "liblzma": "the interpreter: unpacks the CLI that a build may carry",
    "libz": "the interpreter",
    "libffi": "the interpreter",
    "libbz2": "the interpreter",
    "libuuid": "the interpreter",
    "libexpat": "the interpreter, where it has the system's",
    "libmpdec": "the interpreter, where it has the system's",
    "_sysconfigdata__linux_x86_64-linux-gnu": "the interpreter",
    "libgcc_s": "the interpreter, and libraries made with Rust",
    "the standard library": "the interpreter",
    "pydantic_core": "checks everything that comes over the wire, and the settings",
    "pydantic_settings": "settings from the environment and config.env",
    "pydantic": "checks everything that comes over the wire, and the settings",
    "libcrypto": "TLS to the backend",
    "libssl": "TLS to the backend",
    "libsqlite3": "what must not be lost: runs and unsent events",
    "base_library.zip": "the part of the standard library that starts the interpreter",
    "aiohttp": "the connection to the backend, and downloads",
    "socketio": "the protocol to the backend",
    "engineio": "the protocol to the backend",
    "multidict": "aiohttp: headers",
    "yarl": "aiohttp: URLs",
    "propcache": "aiohttp: cached properties",
    "frozenlist": "aiohttp: lists of hooks",
    "aiosignal": "aiohttp: hooks",
    "aiohappyeyeballs": "aiohttp: hosts with several addresses",
    "uvicorn": "docker mode: the server",
    "h11": "docker mode: HTTP of the server",
    "click": "uvicorn: its command line, which it imports",
    "fastapi": "docker mode: the routes",
    "annotated_doc": "fastapi",
    "annotated_types": "pydantic",
    "typing_inspection": "pydantic",
    "starlette": "docker mode: what fastapi is made from",
    "sse_starlette": "docker mode: events of runs as a stream",
    "aiodocker": "runs in containers",
    "multiprocessing": "uvicorn: several servers at once, which it imports",
    "opentelemetry": "Claude Code's SDK, and fastapi: traces",
    "opentelemetry_api": "Claude Code's SDK, and fastapi: traces",
    "dotenv": "settings from config.env",
    "truststore": "certificate authorities of macOS and Windows",
    "sniffio": "which event loop this is",
    "attrs": "aiohttp, and schemas of tools",
    "unicodedata": "the interpreter: names of hosts in all scripts",
    "claude_agent_sdk": "Claude Code",
    "mcp": "Claude Code's SDK: types of tools",
    "mcp_types": "Claude Code's SDK: types of tools",
    "anyio": "Claude Code's SDK: streams",
    "rpds": "Claude Code's SDK: schemas of tools",
    "jsonschema": "Claude Code's SDK: schemas of tools",
    "jsonschema_specifications": "Claude Code's SDK: schemas of tools",
    "referencing": "Claude Code's SDK: schemas of tools",
    "psutil": "the processes of agents",
    "structlog": "logs",
    "rich": "tables and colours on a terminal",
    "attr": "aiohttp, and schemas of tools",
    "bidict": "the protocol to the backend",
    "idna": "names of hosts in all scripts",
    "platformdirs": "where this system keeps files",
    "typing_extensions": "pydantic",
    "executor": "this program",
    "shared": "this program",
    "claude.xz": "the Claude Code CLI, compressed",
}
"""What the parts of the binary are for, by their names without folder and suffix."""

_LEAN: Final = Path(__file__).parent / "lean"

_MCP_KEPT: Final = ("types", "shared")
"""Subpackages of ``mcp`` that are taken as they are."""


def purpose(name: str) -> str:
    """What the file, or package, *name* is for; empty when nobody has said so."""
    parts = [part.partition(".")[0] for part in reversed(name.split("/"))]
    candidates = [name, *parts, *(part.rstrip("0123456789") for part in parts)]
    return next((PURPOSES[part] for part in candidates if part in PURPOSES), "")


def make_lean(mcp: Path, folder: Path) -> None:
    """Put packages into *folder* that are to be found before those that are installed.

    :mod:`mcp` without its clients and servers: these import starlette, httpx2, cryptography and
    more, 8 MB of the binary and 18 MB of memory, for what the executor does not do.

    Args:
        mcp: The installed package.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_LEAN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for part in _MCP_KEPT:
        shutil.copytree(
            mcp / part, folder / "mcp" / part, ignore=shutil.ignore_patterns("__pycache__")
        )
