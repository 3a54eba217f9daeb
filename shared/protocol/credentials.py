"""Finds the credentials in the parts of a request that may hold anything."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

_NAMES_A_SECRET: Final = re.compile(
    r"key|token|secret|passw|pwd|passphrase|credential|auth(?!or(?!i))|cookie|signature|\bsig\b|\bpat\b"
    r"|\bpass\b|\bdsn\b|\bjwt\b|\bbearer\b|webhook|connection-?string",
    re.IGNORECASE,
)
_COUNTS: Final = re.compile(r"tokens$", re.IGNORECASE)
"""Names of limits, which are numbers: ``MAX_OUTPUT_TOKENS``."""

_HEADER: Final = re.compile(r"([\w-]+)\s*[:=]\s*(.+)")

_SCHEME: Final = re.compile(r"(basic|bearer|token|digest|apikey)\s+(?P<rest>\S.*)", re.IGNORECASE)


def named_credentials(variables: Mapping[str, Any]) -> Iterator[str]:
    """Credentials among environment variables or headers: by name, and logins inside of URLs."""
    for name, value in variables.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            continue
        text = str(value)
        if _names_a_secret(name, text):
            yield from _in_header(text)
        elif name.upper().endswith("HEADERS"):
            yield from _in_headers(text)
        else:
            yield from url_credentials(text)


def argument_credentials(arguments: Sequence[Any]) -> Iterator[str]:
    """Credentials in a command line: ``--token x``, ``--api-key=x``, ``KEY=x``, URLs."""
    before = ""
    for argument in arguments:
        if not isinstance(argument, str):
            before = ""
            continue
        name, equals, value = argument.partition("=")
        if equals and _names_a_secret(name, value) and "://" not in name:
            yield value
        elif before.startswith("-") and "=" not in before and _names_a_secret(before, argument):
            yield argument
        else:
            yield from url_credentials(argument)
        before = argument


def url_credentials(url: str) -> Iterator[str]:
    """The password in *url*, and what its query gives to names of secrets; any text will do."""
    if "://" not in url:
        return
    try:
        parts = urlsplit(url)
        password, query = parts.password, parse_qsl(parts.query)
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
    elif parts.username and parts.scheme in ("http", "https"):
        yield unquote(parts.username)  # a token in the place of a login
    for name, value in query:
        if _names_a_secret(name, value):
            yield value


def _names_a_secret(name: str, value: str) -> bool:
    if _COUNTS.search(name) and value.isdecimal():
        return False
    return _NAMES_A_SECRET.search(name.replace("_", "-")) is not None


def _in_headers(text: str) -> Iterator[str]:
    """Of ``ANTHROPIC_CUSTOM_HEADERS`` and its like: ``Name: value`` lines, or ``name=value,…``."""
    for part in text.replace(",", "\n").splitlines():
        header = _HEADER.fullmatch(part.strip())
        if header is not None and _names_a_secret(header[1], header[2]):
            yield from _in_header(header[2])


def _in_header(value: str) -> Iterator[str]:
    """The value, and what it holds: the part after ``Bearer``, a login's password, cookies."""
    yield value
    if scheme := _SCHEME.fullmatch(value.strip()):
        yield scheme["rest"]
        if scheme[1].lower() == "basic":
            yield from _password_of_basic(scheme["rest"])
    if "; " in value:
        for part in value.split(";"):
            yield part.partition("=")[2].strip()


def _password_of_basic(encoded: str) -> Iterator[str]:
    try:
        login = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return
    yield login.partition(":")[2]
