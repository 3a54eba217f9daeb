"""``wegent-executor bundle``: what a bug report needs, in one archive without secrets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from executor.commands.command import Command
from executor.commands.output import Styled, print_line, print_table
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from executor.archive import Part
    from executor.config.loading import Settings

MAX_LOG: Final = 5_000_000
"""How many characters of the log are taken: half of what one file holds by default."""

LIBRARIES: Final = (
    "aiohttp", "claude-agent-sdk", "pydantic", "python-engineio", "python-socketio", "structlog",
)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write the archive and tell what is in it."""
    from pathlib import Path

    from executor.archive import write_archive
    from executor.config.sources import SettingSources, load_right_settings
    from shared.errors import ConfigError
    from shared.redaction import Redactor

    try:
        settings, _ = load_right_settings()
        secrets = [*settings.secrets, *SettingSources.read().credentials]
    except ConfigError as exc:
        raise ConfigError(
            f"without the settings nobody knows what must not be shown: {exc.message}",
            hint=exc.hint,
        ) from None
    path = Path(arguments.output or _default_name())
    parts = list(_parts(settings))
    redact = Redactor(secrets).redact
    sizes = write_archive(path, parts, redact)
    print_table(
        ["file", "bytes", "what it is"],
        [
            (part.name, str(size), redact(part.what))
            for part, size in zip(parts, sizes, strict=True)
        ],
    )
    print_line("")
    print_line(Styled(f"Written to {path.absolute()}", "strong"))
    print_line("Tokens, keys and logins are masked. The log names tasks, folders, hosts and")
    print_line("repositories: look through it before you pass it on.")
    return ExitStatus.OK


def _parts(settings: Settings) -> Iterator[Part]:
    from executor.archive import Part
    from executor.delivery.summary import summarize

    def part(name: str, what: str, make: Callable[[], str]) -> Part:
        try:
            return Part(name, what, make())
        except Exception as exc:  # noqa: BLE001  a fault is no reason for a report without the rest
            error = _reason(exc)
            return Part(name, f"{what}: {error}", _as_json({"error": error}))

    yield part("version.json", "version, platform, libraries", lambda: _as_json(_versions()))
    yield part("config.json", "settings and their sources, masked", lambda: _said("config"))
    yield part("doctor.json", "what doctor finds here", lambda: _said("doctor"))
    yield part("status.json", "the running executor, if there is one", lambda: _said("status"))
    yield part(
        "state.json",
        "numbers of runs and of waiting events, no contents",
        lambda: _as_json(summarize(settings.state_file)),
    )
    log = settings.log_dir / settings.log_file
    yield part("executor.log", "the end of the log", lambda: _end_of_log(log))


def _reason(exc: Exception) -> str:
    from shared.errors import WegentError

    match exc:
        case FileNotFoundError():
            return "there is none"
        case WegentError():
            return exc.message
        case _:
            return f"{type(exc).__name__}: {exc}"


def _versions() -> dict[str, Any]:
    import platform
    from contextlib import suppress
    from importlib.metadata import PackageNotFoundError, version

    from executor.packaged.build_info import version_line
    from executor.packaged.frozen import is_frozen

    libraries: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # of a built program, the commit tells it
            libraries[name] = version(name)
    return {
        "version": version_line(),
        "built": is_frozen(),
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libraries": libraries,
    }


def _said(command: str) -> str:
    """What another command tells with ``--json``; its error when it cannot."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from executor.commands.parser import build_parser
    from shared.errors import WegentError

    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        arguments = build_parser().parse_args([command, "--json"])
        try:
            arguments.command.run(arguments)
        except WegentError:
            if not said.getvalue():  # otherwise it has told all, and what is wrong besides
                raise
    return said.getvalue()


def _end_of_log(path: Path) -> str:
    from executor.log_files import LogFiles

    entries: list[str] = []
    length = 0
    with LogFiles(path) as files:
        for entry in reversed(files.last(MAX_LOG // 100, lambda _entry: True)):
            entries.append("\n".join(entry.lines))
            length += len(entries[-1])
            if length > MAX_LOG:
                break
    return "".join(f"{entry}\n" for entry in reversed(entries))


def _as_json(document: object) -> str:
    import json

    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _default_name() -> str:
    import time

    return time.strftime("wegent-executor-bundle-%Y%m%d-%H%M%S.tar.gz")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write it (default: wegent-executor-bundle-<time>.tar.gz in this folder)",
    )


COMMAND: Final = Command(
    name="bundle",
    help="make an archive for a bug report",
    description="Write an archive (.tar.gz, readable by you only) with what a bug report needs: "
    "version and platform, the settings, what doctor finds, how a running executor stands, "
    "numbers of runs and waiting events, and the end of the log. No prompts and no answers. "
    "Tokens, keys and logins are masked in every file, in whatever form they stand there.",
    run=run,
    add_arguments=_add_arguments,
)
