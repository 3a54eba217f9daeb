"""The exact environment of an agent's process, from a request and the executor's own variables."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from executor.agents.factory import is_claude_code
from executor.network.children import children_environment
from executor.tasks.allowed_hosts import API_URL
from executor.tasks.search_path import with_absolute_path
from shared.errors import RunError
from shared.logging import get_logger
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode

logger = get_logger("agent_environment")


@dataclass(frozen=True, slots=True)
class AgentEnvironment:
    """What an agent's process is started with, worked out from a request and the settings."""

    env: Mapping[str, str]
    model: str | None
    """``None``: the agent's default."""
    config_dir: Path | None
    """The agent's own state; ``None``: the user's own, so that their login is used."""


@dataclass(frozen=True, slots=True)
class ExecutorApi:
    """What the operator gave the executor for the API; empty when nothing."""

    api_key: str | None = None
    auth_token: str | None = None
    base_url: str | None = None
    """``None``: the API's own address."""
    model: str | None = None
    """For requests that name none; ``None``: the CLI's default."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What agents of every run get, unless their requests say otherwise; no key is among them."""

    def with_variables(self, given: Mapping[str, Any]) -> ExecutorApi:
        """This, with the operator's own *given* for all agents; refused are those of requests, too.

        An address and a key among them count where the executor has none. What is left out is
        named in the log.
        """
        _tell_left_out(given)
        variables = _given(given)
        base_url = variables.pop("ANTHROPIC_BASE_URL", None)
        model = variables.pop("ANTHROPIC_MODEL", None)
        keys = {name: variables.pop(name, None) for name in _CREDENTIALS}
        has_own = self.api_key is not None or self.auth_token is not None
        return ExecutorApi(
            self.api_key if has_own else keys["ANTHROPIC_API_KEY"],
            self.auth_token if has_own else keys["ANTHROPIC_AUTH_TOKEN"],
            self.base_url or base_url,
            self.model or model,
            variables,
        )


INHERITED: Final = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "PIP_CERT",
        "SSH_AUTH_SOCK", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME",
        "GIT_COMMITTER_EMAIL", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM",
        "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
        "ANTHROPIC_SMALL_FAST_MODEL",
    }
)  # fmt: skip
"""What an agent's process may have of the executor's environment, beside ``LC_*``."""

INHERITED_ON_WINDOWS: Final = frozenset(
    {
        "APPDATA", "COMSPEC", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS",
        "OS", "PATHEXT", "PROCESSOR_ARCHITECTURE", "PROGRAMDATA", "PROGRAMFILES",
        "PROGRAMFILES(X86)", "PROGRAMW6432", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP",
        "USERDOMAIN", "USERNAME", "USERPROFILE", "WINDIR",
    }
)  # fmt: skip

DEFAULTS: Final[Mapping[str, str]] = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    # A result must be the end of the run: nothing may go on behind it.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    # Its memory lies outside the workspace, where file tools may not write.
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    # The todo list is what a run's progress is told from; TodoWrite always gives all of it.
    "CLAUDE_CODE_ENABLE_TODO_TOOLS": "1",
    "CLAUDE_CODE_ENABLE_TASKS": "0",
}
"""Settings of the CLI that a run without a user needs; a request may change them."""

_ALIASES: Final[Mapping[str, str]] = {
    "api_key": "ANTHROPIC_API_KEY",
    "auth_token": "ANTHROPIC_AUTH_TOKEN",
    "base_url": "ANTHROPIC_BASE_URL",
    "small_model": "ANTHROPIC_SMALL_FAST_MODEL",
    "model": "ANTHROPIC_MODEL",
    "model_id": "ANTHROPIC_MODEL",  # after model: it counts more
}

_REFUSED: Final = re.compile(
    r"(LD|DYLD|WEGENT|GIT|SSH|XDG|OPENSSL|BUN|BASH_FUNC)_.*"
    r"|PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TEMP|TMP|PWD|OLDPWD|IFS|ENV|BASH_ENV|BASHOPTS|SHELLOPTS"
    r"|PS4|PROMPT_COMMAND|ZDOTDIR|CDPATH|EDITOR|VISUAL|PAGER|BROWSER|LESSOPEN|LESSCLOSE"
    r"|.*_PROXY|NODE_OPTIONS|NODE_PATH|NODE_EXTRA_CA_CERTS|NODE_TLS_REJECT_UNAUTHORIZED"
    r"|SSL_CERT_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|CURL_HOME|PIP_CERT"
    r"|PYTHON(PATH|HOME|STARTUP|USERBASE|EXECUTABLE|INSPECT|BREAKPOINT|WARNINGS)"
    r"|PERL5?(LIB|OPT|DB)|RUBY(LIB|OPT)|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS"
    r"|CLAUDE_AGENT_SDK_.*|CLAUDE_CODE_ENTRYPOINT|CLAUDE_CODE_SHELL.*"
    # Files that name programs for what the CLI starts outside of its sandbox.
    r"|AWS_.*(FILE|URL|URI)|GOOGLE_(APPLICATION_CREDENTIALS|EXTERNAL_ACCOUNT_.*)|RIPGREP_.*"
    r"|NPM_CONFIG_(?!REGISTRY$).*"
    # What the CLI takes for signs that somebody else keeps the walls.
    r"|.*(SANDBOX|BUBBLEWRAP|SKIP_PERMISSIONS).*|CLAUDE_CODE_(REMOTE|SIMPLE|EVAL)(_.*)?"
    # Where the CLI sends its requests, and which files and programs it takes for its own.
    r"|(CLAUDE|ANTHROPIC)_(?!BASE_URL$).*"
    r"(URL|HOST|SOCKET|PATH|DIR|FILE|CERT|COMMAND|PREFIX|HELPER|DESCRIPTOR|PLUGIN|_FD).*"
    r"|APPDATA|LOCALAPPDATA|COMSPEC|PATHEXT|SYSTEMROOT|WINDIR|USERPROFILE|HOMEDRIVE|HOMEPATH",
    re.IGNORECASE,
)
"""Variables that a request may not set: they change how programs load, whom they trust, or which
files the CLI takes for its own. Compared without case, as Windows does."""

_CREDENTIALS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_LOGIN: Final = ("CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN")
"""Variables by which the user's own login is found."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def claude_state(home: Path) -> Path:
    """Where Claude keeps its own state when a key is given, instead of the user's login."""
    return home / "claude"


def users_claude_state(environ: Mapping[str, str]) -> Path | None:
    """Where Claude keeps the state of the user whose variables these are, if that can be told."""
    if named := environ.get("CLAUDE_CONFIG_DIR"):
        return Path(named)
    home = environ.get("USERPROFILE" if sys.platform == "win32" else "HOME")
    return Path(home) / ".claude" if home else None


def agent_environment(
    request: ExecutionRequest,
    *,
    environ: Mapping[str, str],
    executor: ExecutorApi,
    home: Path,
) -> AgentEnvironment:
    """Work out what *request*'s agent is started with.

    Without any key the user's own login is used, with the user's own configuration of Claude; so
    the CLI itself says when there is none. Another agent is given neither: it reads keys and
    addresses in the request by itself, and bounds them by a rule of its own.

    Args:
        environ: The executor's own variables, of which an allow-list is passed on.
        executor: The executor's own key; it goes to the executor's own base URL only.
        home: The executor's home; with a key, Claude's state is in there.

    Raises:
        RunError: ``credentials_missing``: another base URL than the executor's, without a key.
    """
    base = {**_inherited(environ), **DEFAULTS}
    if not is_claude_code(request.requested_agent):
        # Where it is installed it is loaded already; no start is to wait for it elsewhere.
        from executor.agents.agno.model_api import named_model

        own = _given(request.first_bot.agent_config.env)
        provider, model = named_model(request.first_bot, request.model)
        if model is None and provider == "anthropic":
            model = executor.model
        return AgentEnvironment({**base, **executor.variables, **own}, model, None)
    given = api_variables(request, executor)
    env = {**base, **given}
    model = request.model or env.get("ANTHROPIC_MODEL") or executor.model
    if model:
        env["ANTHROPIC_MODEL"] = model
    if has_credentials(given):
        return AgentEnvironment(env, model, claude_state(home))
    env |= {name: environ[name] for name in _LOGIN if environ.get(name)}
    return AgentEnvironment(env, model, None)


def api_variables(request: ExecutionRequest, executor: ExecutorApi) -> dict[str, str]:
    """The variables that *request* gives its agent, with an address and a key of the API.

    Those that it does not name are the executor's own, whose key goes to its own base URL only.

    Raises:
        RunError: ``credentials_missing``: another base URL than the executor's, without a key.
    """
    given = _given(request.first_bot.agent_config.env)
    base_url = given.get("ANTHROPIC_BASE_URL", executor.base_url)
    if not has_credentials(given):
        if _origin(base_url) != _origin(executor.base_url):
            raise RunError(
                ErrorCode.CREDENTIALS_MISSING,
                "the request names its own base_url, but brings no key for it",
                hint="put api_key or auth_token beside base_url; the executor's own key goes to "
                "its own base URL only",
            )
        own = {
            "ANTHROPIC_API_KEY": executor.api_key,
            "ANTHROPIC_AUTH_TOKEN": executor.auth_token,
        }
        given |= {name: value for name, value in own.items() if value}
    if base_url:
        given["ANTHROPIC_BASE_URL"] = base_url
    return {**executor.variables, **given}


def has_credentials(variables: Mapping[str, str]) -> bool:
    """Whether there is a key of the API among these."""
    return any(name in variables for name in _CREDENTIALS)


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    names = INHERITED
    if sys.platform == "win32":
        names = names | INHERITED_ON_WINDOWS
    return {
        name: value
        for name, value in children_environment(with_absolute_path(environ)).items()
        if name in names
        or name.startswith("LC_")
        or (sys.platform == "win32" and name.upper() in names)
    }


def _given(raw: Mapping[str, Any]) -> dict[str, str]:
    """The request's variables under their own names, without refused and unusable ones."""
    env: dict[str, str] = {}
    for name, value in raw.items():
        if name in _ALIASES or _is_refused(name):
            continue
        if (text := _text(value)) is not None:
            env[name] = text
    for alias, name in _ALIASES.items():
        if text := _text(raw.get(alias)):
            env[name] = text
    # An empty credential says nothing, and would hide the executor's own.
    return {name: text for name, text in env.items() if text or not name.startswith("ANTHROPIC_")}


def _tell_left_out(given: Mapping[str, Any]) -> None:
    refused = {name for name in given if name not in _ALIASES and _is_refused(name)}
    no_text = {name for name, value in given.items() if value is not None and _text(value) is None}
    if refused:
        logger.warning(
            "EXECUTOR_ENV: no agent is given %s: these are no names of variables, or change how "
            "programs load, whom they trust or which files Claude Code takes for its own",
            _listed(refused),
        )
    if no_text := no_text - refused:
        logger.warning(
            "EXECUTOR_ENV: no agent is given %s: a value must be a text, a number or a boolean",
            _listed(no_text),
        )


def _listed(names: Collection[str]) -> str:
    # What follows NAME= in a name is a value, which is shown to nobody.
    return ", ".join(sorted({repr(name.partition("=")[0]) for name in names}))


def _is_refused(name: str) -> bool:
    return _NAME.fullmatch(name) is None or _REFUSED.fullmatch(name) is not None


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character, which no environment can hold
        return None
    return value


def _origin(base_url: str | None) -> str:
    return (base_url or API_URL).rstrip("/").lower()
