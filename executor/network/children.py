"""The same network for git, Claude Code and what they start, which read variables of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from executor.network.trust import DIRECTORY_VARIABLE, FILE_VARIABLE

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

_TRUST: Final = {
    "NODE_EXTRA_CA_CERTS": FILE_VARIABLE,  # what agents start with Node.js
    "GIT_SSL_CAINFO": FILE_VARIABLE,  # git's library knows neither of OpenSSL's variables
    "GIT_SSL_CAPATH": DIRECTORY_VARIABLE,
}


def children_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* with its proxies and authorities as every program understands them.

    Proxies get both spellings, since curl does not read ``HTTP_PROXY`` in capitals (small letters
    count more), and a scheme, which not every program does without. Authorities that are set
    for one of these programs are kept.
    """
    env = dict(environ)
    for capitals in _PROXIES:
        small = capitals.lower()
        value = (env.get(small) or env.get(capitals) or "").strip()
        if capitals == "NO_PROXY":
            value = _as_curl_reads_it(value)
        elif value and "://" not in value:
            value = f"http://{value}"
        if value:
            env |= {small: value, capitals: value}
    for name, source in _TRUST.items():
        if not env.get(name) and env.get(source):
            env[name] = env[source]
    return env


def _as_curl_reads_it(no_proxy: str) -> str:
    """``*.example.com`` as ``.example.com``; ``*`` by itself; commas and nothing else between."""
    entries = [entry for entry in re.split(r"[\s,]+", no_proxy) if entry]
    if "*" in entries:
        return "*"
    return ",".join(entry[1:] if entry.startswith("*.") else entry for entry in entries)
