"""A stand-in for the ``claude`` program that costs 10 MB and 50 ms instead of 225 MB and 400 ms.

It speaks as much of the SDK's stream-json protocol as a turn needs: initialize, init, streamed
deltas, the whole message, the result; it takes an interrupt at once, and can be killed at any
time. What it says is in the prompt: see :func:`script`. Any other prompt gets a short answer.

The module is the program as well: :func:`install` copies it, so it may import the standard library
only. What is unrealistic: no tools, no hooks, no permissions, and any id can be resumed.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

MODEL = "scripted-cli"
ANSWER = "Understood."

KEY_MARK = "{KEY}"
"""Becomes the API key in what is said, so that a key can be said that the prompt does not show."""


def script(text: str, *, pieces: int = 1, pause_s: float = 0.0, child_s: int | None = None) -> str:
    """A prompt that makes the program say *text*.

    Args:
        pieces: In how many deltas.
        pause_s: Before each of them.
        child_s: Start a process that sleeps so long, in a session of its own, as a tool may.
    """
    return json.dumps({"text": text, "pieces": pieces, "pause_s": pause_s, "child_s": child_s})


def install(place: Path) -> Path:
    """Write the program into the folder *place*; give it to ``WEGENT_CLAUDE_PATH``."""
    program = place / "claude"
    program.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    return program


class _Program:
    def __init__(self, arguments: list[str]) -> None:
        resumed = [a.removeprefix("--resume=") for a in arguments if a.startswith("--resume=")]
        self.session_id = resumed[0] if resumed else str(uuid.uuid4())
        self.inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.prompts: list[dict[str, Any]] = []
        self.interrupted = False
        self.ending = False
        """Whether the input has ended; a turn goes on to its end all the same."""

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            while self.prompts:
                self._turn(self.prompts.pop(0))
            if self.ending:
                return
            self._take(self.inbox.get())

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip():
                self.inbox.put(json.loads(line))
        self.inbox.put(None)

    def _take(self, message: dict[str, Any] | None) -> None:
        if message is None:
            self.ending = True
        elif message["type"] == "user":
            self.prompts.append(message)
        elif message["type"] == "control_request":
            if message["request"]["subtype"] == "interrupt":
                self.interrupted = True
            answer: dict[str, Any] = {"subtype": "success", "request_id": message["request_id"]}
            answer["response"] = {"hook_on_failure_supported": True}
            self._say({"type": "control_response", "response": answer})

    def _pause(self, seconds: float) -> None:
        """Wait, but for an interrupt; take what comes meanwhile."""
        until = time.monotonic() + seconds
        while not self.interrupted:
            left = until - time.monotonic()
            try:
                self._take(self.inbox.get(timeout=left) if left > 0 else self.inbox.get_nowait())
            except queue.Empty:
                if left <= 0:
                    return

    def _turn(self, prompt: dict[str, Any]) -> None:
        began = time.monotonic()
        self.interrupted = False
        wanted = _wanted(prompt["message"]["content"])
        self._say({"type": "system", "subtype": "init", "model": MODEL, "tools": []})
        if wanted["child_s"] is not None:
            subprocess.Popen(
                ["sleep", str(wanted["child_s"])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        text: str = wanted["text"].replace(KEY_MARK, os.environ.get("ANTHROPIC_API_KEY", ""))
        message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
        }
        message |= {"model": MODEL, "content": [], "stop_reason": None, "usage": {}}
        self._event({"type": "message_start", "message": message})
        block = {"type": "text", "text": ""}
        self._event({"type": "content_block_start", "index": 0, "content_block": block})
        size = -(-len(text) // max(1, wanted["pieces"])) or 1
        for at in range(0, len(text), size):
            self._pause(wanted["pause_s"])
            if self.interrupted:
                break
            delta = {"type": "text_delta", "text": text[at : at + size]}
            self._event({"type": "content_block_delta", "index": 0, "delta": delta})
        else:
            message["content"] = [{"type": "text", "text": text}]
            self._say({"type": "assistant", "message": message})
        self._event({"type": "content_block_stop", "index": 0})
        self._event({"type": "message_stop"})
        took_ms = int((time.monotonic() - began) * 1000)
        self._say(
            {
                "type": "result",
                "subtype": "error_during_execution" if self.interrupted else "success",
                "is_error": self.interrupted,
                "result": None if self.interrupted else text,
                "terminal_reason": "aborted_streaming" if self.interrupted else "completed",
                "duration_ms": took_ms,
                "duration_api_ms": took_ms,
                "num_turns": 1,
                "total_cost_usd": 0.0,
                "usage": {"input_tokens": 1, "output_tokens": 1},
                "user_message_uuids": [prompt.get("uuid")],
            }
        )

    def _event(self, event: dict[str, Any]) -> None:
        self._say({"type": "stream_event", "event": event})

    def _say(self, message: dict[str, Any]) -> None:
        ids = {"session_id": self.session_id, "uuid": str(uuid.uuid4())}
        line = json.dumps({**message, **ids, "parent_tool_use_id": None})
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _wanted(content: Any) -> dict[str, Any]:
    wanted = {"text": ANSWER, "pieces": 1, "pause_s": 0.0, "child_s": None}
    with suppress(TypeError, ValueError):
        wanted |= json.loads(content)
    return wanted


if __name__ == "__main__":
    try:
        _Program(sys.argv[1:]).run()
    except BrokenPipeError:
        os._exit(1)
