"""What the executor in a container is given of a request: with what only this executor knows."""

from __future__ import annotations

from typing import Any

from executor.agents.factory import is_claude_code
from executor.tasks.agent_environment import api_variables, has_credentials
from executor.tasks.agent_rules import AgentRules
from executor.tasks.questions import UserInput
from executor.tasks.staging.fetching import origin
from shared.errors import RunError
from shared.protocol.dispatch import dispatch_payload
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode

_LOGIN_TOKEN = "CLAUDE_CODE_OAUTH_TOKEN"  # noqa: S105 - a name

_DECIDED_HERE = ("isolation", "container_mode", "executor_image", "on_node_loss")
"""Fields that say where a run happens: that is settled when it arrives inside."""


def container_request(
    request: ExecutionRequest,
    *,
    rules: AgentRules,
    user_input: UserInput,
    stall_timeout_s: float,
    backend_url: str | None,
) -> dict[str, Any]:
    """The payload for the executor in the container; holds secrets.

    Its agent gets the key that an agent here would get, and is bounded as one here.

    Args:
        rules: What the operator allows.
        user_input: How users are asked, and how long a run may take.
        stall_timeout_s: How long a run that names no limit of its own may be silent.
        backend_url: The only place that may get the request's ``auth_token``; ``None``: nobody.

    Raises:
        RunError: ``credentials_missing``.
    """
    payload = dispatch_payload(request)
    for name in _DECIDED_HERE:
        payload.pop(name, None)
    payload["timeout_seconds"] = request.timeout_seconds or user_input.run_timeout_s
    payload["stall_timeout_seconds"] = request.stall_timeout_seconds or stall_timeout_s
    payload["user_input_timeout_seconds"] = _asked_for_s(request, user_input)
    if (mode := rules.mode(request)) is not None:
        payload["permission_mode"] = mode
    variables = _variables(request, rules)
    bots = payload.setdefault("bot", [])
    if not bots:
        bots.append({})
    bots[0].setdefault("agent_config", {})["env"] = variables
    if request.model is None and "ANTHROPIC_MODEL" not in variables and rules.api.model:
        payload["model"] = rules.api.model
    _bound_token(payload, backend_url)
    return payload


def _asked_for_s(request: ExecutionRequest, user_input: UserInput) -> float:
    if not user_input.answerable():
        return 0
    named = request.user_input_timeout_seconds
    return user_input.timeout_s if named is None else named


def _variables(request: ExecutionRequest, rules: AgentRules) -> dict[str, str]:
    variables = api_variables(request, rules.api)
    if has_credentials(variables) or not is_claude_code(request.requested_agent):
        return variables
    if token := rules.environ.get(_LOGIN_TOKEN):
        return {**variables, _LOGIN_TOKEN: token}
    raise RunError(
        ErrorCode.CREDENTIALS_MISSING,
        "there is no key of the model's API for an agent in a container, where the login of this "
        "machine's user is not known",
        hint="set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN on the "
        "executor, or send a key with the task",
    )


def _bound_token(payload: dict[str, Any], backend_url: str | None) -> None:
    """Name the backend that the token is for; a request that names another keeps its own token."""
    ours = origin(backend_url or "")
    named = payload.get("backend_url")
    if ours is None or (named is not None and origin(named) != ours):
        payload.pop("auth_token", None)
    else:
        payload["backend_url"] = named or backend_url
