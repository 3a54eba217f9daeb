"""Where runs may happen on this machine, and the walls of those that happen in a sandbox."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from executor.agents.claude_code.server_walls import can_wall_servers, is_command
from executor.agents.claude_code.unpacking import cli_cache
from executor.agents.protocol import Sandbox
from executor.network.trust import FILE_VARIABLE
from shared.errors import Refusal
from shared.protocol.execution import ExecutionRequest, Isolation
from shared.status import ErrorCode

CREDENTIALS: Final = (
    ".ssh", ".gnupg", ".aws", ".azure", ".oci", ".kube", ".docker", ".netrc", "_netrc",
    ".git-credentials", ".npmrc", ".yarnrc.yml", ".pypirc", ".pgpass", ".my.cnf", ".s3cfg", ".boto",
    ".vault-token", ".password-store", ".terraformrc", ".terraform.d/credentials.tfrc.json",
    ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".m2/settings.xml",
    ".m2/settings-security.xml", ".gradle/gradle.properties", ".composer/auth.json",
    ".bash_history", ".zsh_history", ".python_history", ".psql_history", ".mysql_history",
    ".node_repl_history", ".local/share/fish", ".wgetrc", ".hgrc", ".pip", ".condarc", ".bundle",
    ".subversion/auth", ".databrickscfg", ".kaggle", ".huggingface", ".cache/huggingface/token",
    ".fly", ".Xauthority", ".ICEauthority", ".codex", ".gemini",
    ".claude", ".claude.json", ".wegent-executor", ".wegent-executor-manager",
    ".npm/_logs",  # they quote its configuration
    ".cache/claude-cli-nodejs",  # what MCP servers of all sessions said
    ".local/share/keyrings", ".mozilla", ".thunderbird", "Library/Keychains", "Library/Cookies",
    "Library/Application Support/Google/Chrome", "Library/Application Support/Firefox",
)  # fmt: skip
"""In the user's home: what opens doors elsewhere."""

SYSTEM_CREDENTIALS: Final = (
    "/etc/shadow", "/etc/gshadow", "/etc/ssl/private", "/run/secrets", "/var/run/secrets",
)  # fmt: skip
"""Of the machine or its container; an executor that runs as root could read them."""

CONFIGURED_CREDENTIALS: Final = (
    "gh", "hub", "glab-cli", "git/credentials", "gcloud", "op", "sops", "rclone", "doctl",
    "containers/auth.json", "composer/auth.json", "google-chrome", "chromium", "pip",
    "BraveSoftware", "microsoft-edge", "pypoetry/auth.toml", "heroku", "wandb", "github-copilot",
)  # fmt: skip
"""The same in ``$XDG_CONFIG_HOME``."""

CREDENTIAL_VARIABLES: Final = (
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AZURE_CONFIG_DIR", "CLAUDE_CONFIG_DIR",
    "CLOUDSDK_CONFIG", "DOCKER_CONFIG", "GH_CONFIG_DIR", "GNUPGHOME",
    "GOOGLE_APPLICATION_CREDENTIALS", "NETRC", "NPM_CONFIG_USERCONFIG", "PGPASSFILE",
)  # fmt: skip
"""Variables of the executor that name further such files; ``KUBECONFIG`` may name several."""

CLAUDE_PARTS: Final = ("skills", "plugins")
"""Of Claude's own state: what commands may be asked to run."""


@dataclass(slots=True)
class Availability:
    """Whether something is to be had, which may change while the executor runs."""

    problem: str | None
    """Why it is not; ``None``: it is."""


@dataclass(frozen=True, slots=True)
class IsolationRules:
    """What the operator wants, and what this machine can do."""

    least: Isolation = Isolation.NONE
    """No run gets less; a request may ask for more."""
    sandbox_problem: str | None = "none was looked for"
    """Why there is no sandbox on this machine; ``None``: there is one."""
    walled_servers: bool = can_wall_servers()
    """Whether MCP servers that are commands can be started inside walls of their own."""
    containers: Availability = field(default_factory=lambda: Availability("only local mode can"))
    """Whether runs can have containers."""

    @property
    def available(self) -> list[Isolation]:
        """What runs can have, from weakest to strongest; empty when the operator's is missing."""
        levels = [Isolation.NONE]
        if self.sandbox_problem is None:
            levels.append(Isolation.SANDBOX)
        if self.containers.problem is None:
            levels.append(Isolation.CONTAINER)
        return [level for level in levels if level.stronger(self.least) is level]

    def level(self, request: ExecutionRequest) -> Isolation:
        """Where *request* runs.

        Raises:
            Refusal: ``isolation_unavailable``: the operator or the request wants what this machine
                cannot do, or the request brings what cannot be kept inside.
        """
        level = self.least.stronger(request.isolation or Isolation.NONE)
        if level not in self.available:
            sandbox = level is Isolation.SANDBOX
            problem = self.sandbox_problem if sandbox else self.containers.problem
            raise Refusal(
                ErrorCode.ISOLATION_UNAVAILABLE,
                f"this executor cannot run tasks with isolation {level.value!r}: {problem}",
                hint=f"it offers: {', '.join(self.available) or 'nothing'}",
            )
        if level is Isolation.SANDBOX and (outside := self._servers_outside(request)):
            raise Refusal(
                ErrorCode.ISOLATION_UNAVAILABLE,
                f"MCP servers that would start programs outside the sandbox: "
                f"{', '.join(outside)[:200]}",
                hint="reach them over http, without headersHelper; or the executor's operator "
                "sets LOCAL_ISOLATION=none",
            )
        return level

    def _servers_outside(self, request: ExecutionRequest) -> list[str]:
        servers = request.servers
        return [name for name, server in servers.items() if not self._stays_inside(server)]

    def _stays_inside(self, server: Mapping[str, Any]) -> bool:
        # A command as well: the CLI starts it to ask for the headers.
        if "headersHelper" in server:
            return False
        if is_command(server):
            return self.walled_servers and isinstance(server.get("command"), str)
        return server.get("type") in {"http", "sse"} and "command" not in server


@dataclass(frozen=True, slots=True)
class Walls:
    """The executor's own places, which no sandboxed command may read."""

    home: Path
    """``WEGENT_EXECUTOR_HOME``."""
    others: tuple[Path, ...]
    """Workspace root and log folder, wherever they are."""
    environ: Mapping[str, str]

    def around(
        self, session_dir: Path, hosts: Sequence[str], protected: Sequence[Path] = ()
    ) -> Sandbox:
        """The sandbox of a run whose session lives in *session_dir*. Resolves links: blocks.

        *protected* is what commands may read there, and not write; it exists.
        """
        user = Path(self.environ.get("HOME") or Path.home())
        hidden = [self.home, *self.others, *_credential_files(user, self.environ)]
        claude = {user / ".claude", Path(self.environ.get("CLAUDE_CONFIG_DIR") or user / ".claude")}
        parts = [folder / part for folder in claude for part in CLAUDE_PARTS]
        # The CLI is its own search program, too: it has shell functions that start it by its path.
        parts.append(cli_cache(self.home))
        readable = [path for path in sorted(parts) if path.is_dir()]
        # Commands trust it as the executor does, and it may lie with the executor's settings.
        if (file := Path(self.environ.get(FILE_VARIABLE, ""))).is_file():
            readable.extend(_with_targets([file]))
        return Sandbox(
            writable=(session_dir.resolve(),),
            hidden=tuple(dict.fromkeys(_with_targets(hidden))),
            readable=tuple(dict.fromkeys(readable)),
            hosts=tuple(hosts),
            protected=tuple(protected),
            temporary=temporary_folder(self.home),
        )


def temporary_folder(home: Path) -> Path:
    """Where sandboxed sessions of the executor in *home* keep temporary files.

    Short, since sockets are made in there, whose paths may have 104 characters.
    """
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    return Path("/tmp") / f"wegent-{name}"  # noqa: S108 - its owner is checked when it is used


def _credential_files(user: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    yield from map(Path, SYSTEM_CREDENTIALS)
    yield from (user / name for name in CREDENTIALS)
    config = Path(environ.get("XDG_CONFIG_HOME") or user / ".config")
    yield from (config / name for name in CONFIGURED_CREDENTIALS)
    named = [environ[name] for name in CREDENTIAL_VARIABLES if environ.get(name)]
    named += environ.get("KUBECONFIG", "").split(os.pathsep)
    yield from (path for path in map(Path, named) if path.is_absolute())


def _with_targets(paths: Sequence[Path]) -> Iterator[Path]:
    """*paths* and where they lead: hiding a link does not hide its target."""
    for path in paths:
        yield path
        yield path.resolve()
