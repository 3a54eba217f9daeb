"""Short ways to write scenarios for :class:`scripts.scripted_model.ScriptedModel` in tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.scripted_scenario import Scenario, parse_scenarios

Step = dict[str, Any]

KEY = "sk-key-of-the-request-4711"


def reaching(url: str, key: str = KEY, **env: Any) -> dict[str, Any]:
    """The part of a task's config that sends its agent to the API at *url*; nothing is retried."""
    return {"env": {"base_url": url, "api_key": key, "CLAUDE_CODE_MAX_RETRIES": "0", **env}}


def step(*content: Mapping[str, Any], **settings: Any) -> Step:
    """A step of these timeline items, with ``usage``, ``delta_pause_s`` and so on as *settings*."""
    return {"content": [dict(item) for item in content], **settings}


def text_step(text: str) -> Step:
    return step({"text": text})


def tool_step(tool: str, arguments: Mapping[str, Any], *, text: str | None = None) -> Step:
    """A step that says *text*, if any, and calls one tool."""
    call = {"tool": tool, "input": dict(arguments)}
    return step(call) if text is None else step({"text": text}, call)


def error_step(status: int, *, then: str | None = None, times: int = 1, **fields: Any) -> Step:
    """A step that answers an HTTP error: always, or *times* times and *then* that text."""
    if then is None:
        return step({"http_error": status, **fields})
    return step({"http_error": status, "times": times, **fields}, {"text": then})


def scenario(*steps: Step, name: str = "test", **match: Any) -> Scenario:
    """A scenario; *match* takes ``prompt``, ``history``, ``system`` and ``model``."""
    return parse_scenarios({"name": name, "match": match, "steps": list(steps)})[0]
