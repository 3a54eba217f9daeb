"""Hooks as others write them: modules and installed packages in a folder of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SAMPLE: Final = """
from executor.hooks.base import Hook, TaskConfig
from typing import Any

class MyCustomHook(Hook):

    async def before_execution(self, config: TaskConfig) -> None:
        print("the task begins")

    async def on_tool_call(
        self,
        turn: int,
        tool_name: str,
        tool_input: dict,
        tool_output: Any
    ) -> None:
        print(f"tool call: {tool_name}")
        await self.log_to_external_system(tool_name, tool_input, tool_output)

    async def after_execution(self, success: bool, error: str | None) -> None:
        if success:
            print("the task has succeeded")
        else:
            print(f"the task has failed: {error}")
"""
"""The custom hook of seed 000, but for its imports and the language of its words.

Its ``log_to_external_system`` is its reader's to write.
"""

AUDITED: Final = """
from pathlib import Path
from sample_hook import MyCustomHook

class AuditedHook(MyCustomHook):
    async def log_to_external_system(self, *call):
        with Path(__file__).with_name("audit").open("a", encoding="utf-8") as file:
            file.write(repr(call) + "\\n")
"""


def put_modules(folder: Path) -> None:
    """Write ``sample_hook.MyCustomHook`` and ``audited_hook.AuditedHook`` into *folder*."""
    (folder / "sample_hook.py").write_text(SAMPLE, encoding="utf-8")
    (folder / "audited_hook.py").write_text(AUDITED, encoding="utf-8")


def install(folder: Path, name: str, target: str) -> None:
    """Make *target* (``module:Class``) an entry point *name* of a package installed in *folder*."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
    )
    entry = f"[wegent_executor.hooks]\n{name} = {target}\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
