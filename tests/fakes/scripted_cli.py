"""A stand-in for the ``claude`` program that costs 10 MB and 50 ms instead of 225 MB and 400 ms.

It speaks as much of the SDK's stream-json protocol as a turn needs: initialize, init, streamed
deltas, a shell command, a question to the user, the whole message, the result; it takes an
interrupt at once unless told otherwise, and can be killed at any time. What it does is in the
prompt: see :func:`script`. Any other prompt gets a short answer.

The module is the program as well: :func:`install` copies it, so it may import the standard library
only. What is unrealistic: no hooks, no permission is asked for the command, a question denied is a
question answered, and any id can be resumed. On Linux a turn fails while another one goes on in the
same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MODEL = "scripted-cli"
ANSWER = "Understood."

KEY_MARK = "{KEY}"
"""Becomes the API key in what is said, so that a key can be said that the prompt does not show."""


QUESTION = "Which one?"


def script(
    text: str,
    *,
    pieces: int = 1,
    pause_s: float = 0.0,
    tool_s: float | None = None,
    asks: bool = False,
    child_s: int | None = None,
    stubborn: bool = False,
    deaf: bool = False,
    diary: Path | None = None,
) -> str:
    """A prompt that makes the program say *text*.

    Args:
        pieces: In how many deltas.
        pause_s: Before each of them.
        tool_s: Halfway, let a shell command sleep so long, in a session of its own, and wait.
        asks: Halfway, ask the user :data:`QUESTION`, and wait for the answer.
        child_s: Start a process that sleeps so long, in a session of its own, and leave it alone.
        stubborn: Everything that is started ignores SIGTERM.
        deaf: Take no notice of interrupts.
        diary: File to which it writes, line by line as JSON, what its caller cannot see:
            ``{"what": "started" | "child" | "interrupt", "pid", "at"}``; ``at`` is in seconds of
            the system's monotonic clock.
    """
    given: dict[str, Any] = {
        "text": text,
        "pieces": pieces,
        "pause_s": pause_s,
        "tool_s": tool_s,
        "asks": asks,
        "child_s": child_s,
        "stubborn": stubborn,
        "deaf": deaf,
        "diary": str(diary) if diary is not None else None,
    }
    # Only what differs, so that prompts stay readable in logs.
    return json.dumps({name: value for name, value in given.items() if value != _USUAL[name]})


_USUAL: dict[str, Any] = {
    "text": ANSWER,
    "pieces": 1,
    "pause_s": 0.0,
    "tool_s": None,
    "asks": False,
    "child_s": None,
    "stubborn": False,
    "deaf": False,
    "diary": None,
}


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
        self.answers: set[str] = set()
        self.wanted = _USUAL
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
        elif message["type"] == "control_response":
            self.answers.add(message["response"]["request_id"])
        elif message["type"] == "control_request":
            if message["request"]["subtype"] == "interrupt":
                self._note("interrupt", os.getpid())
                if self.wanted["deaf"]:
                    return
                self.interrupted = True
            answer: dict[str, Any] = {"subtype": "success", "request_id": message["request_id"]}
            answer["response"] = {"hook_on_failure_supported": True}
            self._say({"type": "control_response", "response": answer})

    def _pause(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait, but for an interrupt or for *until*; take what comes meanwhile."""
        end = time.monotonic() + seconds
        while not self.interrupted and not until():
            left = end - time.monotonic()
            try:
                self._take(self.inbox.get(timeout=left) if left > 0 else self.inbox.get_nowait())
            except queue.Empty:
                if left <= 0:
                    return

    def _turn(self, prompt: dict[str, Any]) -> None:
        began, text, error = time.monotonic(), "", None
        self.interrupted = False
        with socket.socket(socket.AF_UNIX) as alone:
            try:
                if sys.platform == "linux":  # a name without a file, free again after any death
                    folder = hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()
                    alone.bind(f"\0{MODEL} {folder}")
            except OSError:
                error = "two agents work in this folder at once"
            else:
                text = self._take_turn(prompt)
        # Only now: whoever hears it may begin another turn in the folder at once.
        self._result(prompt, int((time.monotonic() - began) * 1000), text=text, error=error)

    def _take_turn(self, prompt: dict[str, Any]) -> str:
        """Do what *prompt* wants; what was said."""
        self.wanted = wanted = _wanted(prompt["message"]["content"])
        self._note("started", os.getpid())
        self._say({"type": "system", "subtype": "init", "model": MODEL, "tools": []})
        if wanted["child_s"] is not None:
            self._start(wanted["child_s"])
        text: str = wanted["text"].replace(KEY_MARK, os.environ.get("ANTHROPIC_API_KEY", ""))
        size = -(-len(text) // max(1, wanted["pieces"])) or 1
        if wanted["tool_s"] is None and not wanted["asks"]:
            self._message(text, size)
        else:
            half = text.find(" ", len(text) // 2) + 1
            question = {"question": QUESTION, "header": "Which", "multiSelect": False}
            question["options"] = [{"label": x, "description": x} for x in ("this", "that")]
            if wanted["tool_s"] is not None:
                use = _tool_use("Bash", {"command": f"sleep {wanted['tool_s']:g}"})
            else:
                use = _tool_use("AskUserQuestion", {"questions": [question]})
            self._message(text[:half], size, use)
            if not self.interrupted:
                if wanted["tool_s"] is not None:
                    self._sleep(wanted["tool_s"])
                else:
                    self._ask(use)
                self._tool_result(use["id"])
            self._message(text[half:], size)
        return text

    def _result(
        self, prompt: dict[str, Any], took_ms: int, *, text: str, error: str | None
    ) -> None:
        failed = self.interrupted or error is not None
        self._say(
            {
                "type": "result",
                "subtype": "error_during_execution" if failed else "success",
                "is_error": failed,
                "result": None if failed else text,
                "errors": [error] if error is not None else None,
                "terminal_reason": "aborted_streaming" if self.interrupted else "completed",
                "duration_ms": took_ms,
                "duration_api_ms": took_ms,
                "num_turns": 1,
                "total_cost_usd": 0.0,
                "usage": {"input_tokens": 1, "output_tokens": 1},
                "user_message_uuids": [prompt.get("uuid")],
            }
        )

    def _message(self, text: str, size: int, use: dict[str, Any] | None = None) -> None:
        """Stream *text*, and after it the use of a tool; nothing once interrupted."""
        if self.interrupted:
            return
        message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
        }
        message |= {"model": MODEL, "content": [], "stop_reason": None, "usage": {}}
        self._event({"type": "message_start", "message": message})
        block: dict[str, Any] = {"type": "text", "text": ""}
        self._event({"type": "content_block_start", "index": 0, "content_block": block})
        for at in range(0, len(text), size):
            self._pause(self.wanted["pause_s"])
            if self.interrupted:
                break
            delta = {"type": "text_delta", "text": text[at : at + size]}
            self._event({"type": "content_block_delta", "index": 0, "delta": delta})
        else:
            whole = {**message, "content": [{"type": "text", "text": text}]}
            self._say({"type": "assistant", "message": whole})
        self._event({"type": "content_block_stop", "index": 0})
        if use is not None and not self.interrupted:
            self._event({"type": "content_block_start", "index": 1, "content_block": use})
            self._say({"type": "assistant", "message": {**message, "content": [use]}})
            self._event({"type": "content_block_stop", "index": 1})
        self._event({"type": "message_stop"})

    def _sleep(self, seconds: float) -> None:
        """The shell command; an interrupt kills it unless it is stubborn, as with the CLI."""
        command = self._start(seconds)
        while command.poll() is None and not self.interrupted:
            self._pause(0.05)
        if command.poll() is None and not self.wanted["stubborn"]:
            command.kill()
            command.wait()

    def _ask(self, use: dict[str, Any]) -> None:
        asked = str(uuid.uuid4())
        request = {"subtype": "can_use_tool", "tool_name": use["name"], "input": use["input"]}
        request |= {"permission_suggestions": None, "tool_use_id": use["id"]}
        self._say({"type": "control_request", "request_id": asked, "request": request})
        while asked not in self.answers and not self.interrupted and not self.ending:
            self._pause(60, until=lambda: asked in self.answers or self.ending)

    def _tool_result(self, tool_id: str) -> None:
        result = {"type": "tool_result", "tool_use_id": tool_id, "content": "done"}
        self._say({"type": "user", "message": {"role": "user", "content": [result]}})

    def _start(self, seconds: float) -> subprocess.Popen[bytes]:
        sleep = ["sleep", f"{seconds:g}"]
        if self.wanted["stubborn"]:
            sleep = ["sh", "-c", f"trap '' TERM; exec sleep {seconds:g}"]
        child = subprocess.Popen(
            sleep,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._note("child", child.pid)
        return child

    def _note(self, what: str, pid: int) -> None:
        if self.wanted["diary"] is not None:
            line = json.dumps({"what": what, "pid": pid, "at": time.monotonic()})
            with Path(self.wanted["diary"]).open("a") as diary:
                diary.write(f"{line}\n")

    def _event(self, event: dict[str, Any]) -> None:
        self._say({"type": "stream_event", "event": event})

    def _say(self, message: dict[str, Any]) -> None:
        ids = {"session_id": self.session_id, "uuid": str(uuid.uuid4())}
        line = json.dumps({**message, **ids, "parent_tool_use_id": None})
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _tool_use(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": f"toolu_{uuid.uuid4().hex}",
        "name": name,
        "input": arguments,
    }


def _wanted(content: Any) -> dict[str, Any]:
    if isinstance(content, list):
        content = content[-1].get("text")
    wanted = dict(_USUAL)
    with suppress(TypeError, ValueError, AttributeError):
        wanted |= json.loads(content[content.index("{") :])  # a resumed run begins with a sentence
    return wanted


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write("2.1.329 (Claude Code)\n")
        sys.exit()
    try:
        _Program(sys.argv[1:]).run()
    except BrokenPipeError:
        os._exit(1)
