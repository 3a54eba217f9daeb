"""Read what a Messages API request says about its conversation, without any state of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.scripted_scenario import Scenario

Json = Mapping[str, Any]

_ADDED_BY_CLI = (
    "[Request interrupted by user",
    "<system-reminder>",
    "Output token limit hit.",
    "Your response above was stopped by a safety classifier",
    "[Your previous response had no visible output.",
    "Base directory for this skill:",
)
"""How texts begin that CLI 2.1.329 itself puts into user messages (docs/notes/claude-cli.md)."""
_CWD = re.compile(r"^\W*(?:Primary working|Working) directory: *(.+?) *$", re.MULTILINE)
_DEFERRED = re.compile(
    r"^The following deferred tools are now available.*\n((?:\S+\n)+)", re.MULTILINE
)
_PLAN_FILE = re.compile(r"You should create your plan at (\S+)")
_SUMMARY_REQUEST = "create a detailed summary of the conversation"


@dataclass(frozen=True)
class Conversation:
    """One request's view of its conversation."""

    prompt: str
    """The user's last prompt, without what the CLI adds to it."""
    history: str
    """All text before that prompt."""
    turn: int
    """Number of assistant turns after the prompt: the step to play."""
    system: str
    model: str
    tools: tuple[str, ...]
    """Names of the tools whose definitions the request carries."""
    deferred_tools: tuple[str, ...]
    """Names the CLI only announces; it still runs a correct call of one."""
    cwd: str
    """Working directory the CLI reports; ``.`` when the request does not say."""
    plan_file: str
    """Where the CLI wants its plan in plan mode; empty when the request does not say."""
    last_tool_result: str
    session_id: str
    """Empty when the request does not say."""
    stream: bool
    side_answer: str | None
    """Text to answer a request with that is not a turn of the agent (a title, a summary, a
    quota check), else ``None``."""

    def matches(self, scenario: Scenario) -> bool:
        match = scenario.match
        return (
            all(text in self.prompt for text in match.prompt)
            and all(text in self.history for text in match.history)
            and all(text in self.system for text in match.system)
            and all(text in self.model for text in match.model)
        )

    def fill(self, value: Any) -> Any:
        """Replace ``{cwd}``, ``{plan_file}``, ``{prompt}`` and ``{last_tool_result}`` in every
        string of *value*.
        """
        if isinstance(value, str):
            names = {
                "{cwd}": self.cwd,
                "{plan_file}": self.plan_file,
                "{prompt}": self.prompt,
                "{last_tool_result}": self.last_tool_result,
            }
            return re.sub(
                r"\{(?:cwd|plan_file|prompt|last_tool_result)\}",
                lambda found: names[found[0]],
                value,
            )
        if isinstance(value, Mapping):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value


def read_conversation(body: Any) -> Conversation:
    """Read the body of ``POST /v1/messages``.

    Raises:
        ValueError: The body is no object, or lacks ``model`` or ``messages`` with roles.
    """
    if not isinstance(body, Mapping):
        raise ValueError("the body must be a JSON object")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str):
        raise ValueError("model: Field required")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f"messages.{index}.role: Field required")
    at, prompt = _last_prompt(messages)
    system = "\n".join(_texts(body.get("system")))
    tools = tuple(str(tool.get("name")) for tool in body.get("tools") or ())
    announced = [system, *(t for m in messages if m["role"] == "system" for t in _texts(m))]
    cwd = next((found[1] for text in announced if (found := _CWD.search(text))), ".")
    return Conversation(
        prompt=prompt,
        history="\n".join(text for message in messages[:at] for text in _texts(message)),
        turn=sum(message["role"] == "assistant" for message in messages[at + 1 :]),
        system=system,
        model=model,
        tools=tools,
        deferred_tools=tuple(
            name
            for text in announced
            for found in _DEFERRED.findall(text)
            for name in found.split()
        ),
        cwd=cwd,
        plan_file=next((found[1] for text in announced if (found := _PLAN_FILE.search(text))), ""),
        last_tool_result=_last_tool_result(messages),
        session_id=_session_id(body),
        stream=body.get("stream") is True,
        side_answer=_side_answer(body, model, prompt, tools),
    )


def _last_prompt(messages: Sequence[Json]) -> tuple[int, str]:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "user" and (text := _prompt_of(messages[index])):
            return index, text
    return 0, ""


def _prompt_of(message: Json) -> str:
    """The prompt in a user message, or nothing when it only carries results and reminders."""
    # Beside tool results, too: after a turn that failed, the next prompt comes with them.
    parts = [
        str(block.get("text", "")) for block in _blocks(message) if block.get("type") == "text"
    ]
    parts = [text for text in parts if not text.lstrip().startswith(_ADDED_BY_CLI)]
    return "\n".join(parts).strip()


def _blocks(message: Json) -> list[Json]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or () if isinstance(block, Mapping)]


def _texts(value: Any) -> Iterator[str]:
    """All text of a message, a block list or a plain string, tool results included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if "text" in value:
            yield str(value["text"])
        yield from _texts(value.get("content"))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _last_tool_result(messages: Sequence[Json]) -> str:
    for message in reversed(messages):
        for block in reversed(_blocks(message)):
            if block.get("type") == "tool_result":
                return "\n".join(_texts(block.get("content")))
    return ""


def _session_id(body: Json) -> str:
    """The CLI hides it in ``metadata.user_id``, itself a JSON text."""
    try:
        return str(json.loads(body["metadata"]["user_id"])["session_id"])
    except (KeyError, TypeError, ValueError):
        return ""


def _side_answer(body: Json, model: str, prompt: str, tools: Sequence[str]) -> str | None:
    schema = (((body.get("output_config") or {}).get("format")) or {}).get("schema")
    if isinstance(schema, Mapping):
        names = schema.get("properties") or {}
        return json.dumps(dict.fromkeys(names, "Scripted session"))
    if body.get("max_tokens") == 1:
        return "ok"
    if _SUMMARY_REQUEST in prompt:
        return "<summary>Scripted summary of the conversation.</summary>"
    if "haiku" in model and not tools:
        return "Scripted."
    return None
