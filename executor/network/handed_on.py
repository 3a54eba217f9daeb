"""The network of this machine, handed on to an executor in a container: packed here, adopted there.

A container has neither this machine's files nor its loopback. So authorities go as the contents of
files, and a proxy on the loopback is asked for under the name that this machine has inside. A login
of a proxy is a secret: all of it is files, which nobody sees who may only look at containers.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from executor.network import trust
from executor.network.children import children_environment
from executor.network.proxies import is_loopback
from executor.network.variables import NETWORK_VARIABLES
from shared.errors import ConfigError

PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

LOCAL_AUTHORITIES: Final = (
    "/usr/local/share/ca-certificates",  # Debian, Ubuntu, Alpine
    "/etc/pki/ca-trust/source/anchors",  # Fedora, RHEL
    "/etc/pki/trust/anchors",  # SUSE
    "/etc/ca-certificates/trust-source/anchors",  # Arch
)
"""Where systems have the authorities that their administrators have added."""


@dataclass(frozen=True, slots=True)
class HandedOn:
    """What an executor in a container is given.

    Attributes:
        variables: Of the network, as they are inside.
        files: What these name, and one with the variables themselves, by their names, for one
            folder. Empty: there is nothing to be said.
        on_loopback: The variables whose proxies are on this machine's loopback.
    """

    variables: Mapping[str, str] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    on_loopback: tuple[str, ...]


def pack(
    environ: Mapping[str, str],
    *,
    file: PurePosixPath,
    this_machine: str,
    local_authorities: tuple[str, ...] = LOCAL_AUTHORITIES,
) -> HandedOn:
    """The network that *environ* describes, for a container. Reads files: not for the event loop.

    What the system trusts goes along where the network is not just the open internet: where one of
    the network's variables is set, or an administrator has added authorities.

    Args:
        file: Where the variables are going to lie inside, in one folder with the other files.
        this_machine: What this machine is called inside; it is reached without a proxy.

    Raises:
        ConfigError: A variable names a file or folder that cannot be read.
    """
    named = children_environment(environ)
    variables, on_loopback = {}, []
    for name in PROXIES:
        if value := named.get(name):
            variables[name] = _from_inside(value, this_machine)
            if variables[name] != value:
                on_loopback.append(name)
    if variables:
        direct = (named.get("NO_PROXY", ""), "localhost", "127.0.0.1", "::1", this_machine)
        variables["NO_PROXY"] = ",".join(entry for entry in direct if entry)
        if "*" in direct:  # understood by itself only
            variables["NO_PROXY"] = "*"
    files: dict[str, bytes] = {}
    for name, content in _authorities(environ, local_authorities).items():
        beside = file.with_name(f"{name.lower()}.pem")
        files[beside.name], variables[name] = content, str(beside)
    if variables:
        files[file.name] = json.dumps(variables).encode()
    return HandedOn(variables, files, tuple(on_loopback))


def adopt_handed_on(file: Path, environ: MutableMapping[str, str]) -> None:
    """Set in *environ* the variables that *file* has and *environ* has not; it need not exist.

    Reads it: call it before the event loop runs.

    Raises:
        ConfigError: It is there and cannot be read.
    """
    try:
        variables = json.loads(file.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{file} cannot be read: {type(exc).__name__}") from None
    set_already = {name.upper() for name, value in environ.items() if value}
    for name, value in variables.items():
        if name in NETWORK_VARIABLES and name not in set_already:
            environ[name] = value


def _from_inside(proxy: str, this_machine: str) -> str:
    try:
        parts = urlsplit(proxy)
        host = parts.hostname or ""
        if not is_loopback(host):
            return proxy
    except ValueError:  # whoever needs it says so
        return proxy
    login, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{login}{at}{this_machine}{port}"))


def _authorities(
    environ: Mapping[str, str], local_authorities: tuple[str, ...]
) -> dict[str, bytes]:
    """The contents of files of authorities, by the variables that name them inside."""
    found: dict[str, bytes] = {}
    own_file, own_folder = (environ.get(n) for n in (trust.FILE_VARIABLE, trust.DIRECTORY_VARIABLE))
    in_company = any(name.upper() in NETWORK_VARIABLES and environ[name] for name in environ)
    if own_file or in_company or any(map(_has_files, local_authorities)):
        parts = [_read(own_file, trust.FILE_VARIABLE)] if own_file else []
        if not own_file or trust.STORE_IS_NO_FILE:
            parts.append(_of_system())
        if own_folder:
            parts.append(_read_folder(own_folder, trust.DIRECTORY_VARIABLE))
        found[trust.FILE_VARIABLE] = b"".join(parts)
    for name in ("NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"):
        if file := environ.get(name):
            found[name] = _read(file, name)
    if (folder := environ.get("GIT_SSL_CAPATH")) and "GIT_SSL_CAINFO" not in found:
        found["GIT_SSL_CAINFO"] = _read_folder(folder, "GIT_SSL_CAPATH")
    return {name: content for name, content in found.items() if content}


def _of_system() -> bytes:
    """Whom this system trusts; empty where that is not to be had as files."""
    if trust.STORE_IS_NO_FILE:
        known = ssl.create_default_context().get_ca_certs(binary_form=True)
        return "".join(map(ssl.DER_cert_to_PEM_cert, known)).encode()
    there = next((Path(file) for file in trust.SYSTEM_FILES if Path(file).exists()), None)
    return b"" if there is None else _read(str(there), "the system's store")


def _read(file: str, variable: str) -> bytes:
    try:
        return Path(file).read_bytes().rstrip() + b"\n"
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise ConfigError(f"{variable}: {file} cannot be used: {reason}") from None


def _read_folder(folder: str, variable: str) -> bytes:
    """All authorities in a folder where they have hashed names."""
    if not Path(folder).is_dir():
        raise ConfigError(f"{variable}: {folder} is not a directory")
    files = sorted(Path(folder).glob("[0-9a-f]*.[0-9]*"))
    return b"".join(_read(str(file), variable) for file in files)


def _has_files(folder: str) -> bool:
    return any(path.is_file() for path in Path(folder).rglob("*"))
