"""``wegent-executor service``: have the machine start the executor and look after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from executor.commands.command import Command
from executor.commands.help_format import HelpFormatter
from executor.config.home import HOME_VARIABLE, default_home, executor_home
from executor.exit_status import ExitStatus
from executor.service.keeper import keeper_here
from shared.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from executor.config.local import LocalSettings
    from executor.service.definition import Service, ServiceKeeper, ServiceStatus
    from executor.service.steps import Step


def install(arguments: argparse.Namespace) -> int:
    """Have the executor started at login."""
    from executor.commands.output import print_line, warn

    keeper = _keeper(dry_run=arguments.dry_run)
    settings, only_here = _settings_of_a_service()
    steps = keeper.install(_service(settings, os.environ), force=arguments.force)
    if only_here:
        warn(
            f"the service will not have what only this shell has: {', '.join(only_here)}; "
            f"put it into {settings.home / 'config.env'}"
        )
    if not steps:
        print_line("The service is installed already.")
    elif _carry_out(steps, dry_run=arguments.dry_run):
        print_line(
            "Installed. To start it (after a stop, if it runs): wegent-executor service start"
        )
        print_line(keeper.advice)
    return ExitStatus.OK


def uninstall(arguments: argparse.Namespace) -> int:
    """Stop the service and remove it."""
    from executor.commands.output import print_line

    steps = _keeper(dry_run=arguments.dry_run).uninstall(force=arguments.force)
    if not steps:
        print_line("The service is not installed.")
    elif _carry_out(steps, dry_run=arguments.dry_run):
        print_line("Uninstalled. The executor's home stays as it is.")
    return ExitStatus.OK


def start(arguments: argparse.Namespace) -> int:
    """Start the service."""
    from executor.service.steps import StepFailed

    try:
        return _tell(lambda keeper: keeper.start(), "Started.", dry_run=arguments.dry_run)
    except StepFailed as exc:
        exc.hint = exc.hint or "how it ended: wegent-executor service status; why: doctor, and logs"
        raise


def stop(arguments: argparse.Namespace) -> int:
    """Stop the service; where it can be told to, it lets runs finish first."""
    return _tell(lambda keeper: keeper.stop(), "Stopped.", dry_run=arguments.dry_run)


def status(arguments: argparse.Namespace) -> int:
    """Show how the service stands."""
    from executor.commands.output import print_json, print_table

    found = keeper_here().status()
    if arguments.json:
        print_json(
            {
                "state": found.state,
                "at_login": found.at_login,
                "pid": found.pid,
                "says": found.says,
                "last_exit": found.last_exit,
            }
        )
    else:
        print_table(("", ""), _rows(found))
    running = found.state in ("running", "starting", "stopping")
    return ExitStatus.OK if running else ExitStatus.NOT_RUNNING


def _rows(found: ServiceStatus) -> Iterator[Sequence[str]]:
    yield "service", found.state
    if found.state == "not installed":
        return
    yield "starts at login", "yes" if found.at_login else "no"
    if found.pid is not None:
        yield "pid", str(found.pid)
    if found.says is not None:
        yield "says", found.says
    if found.last_exit is not None:
        yield "ended last", _explained(found.last_exit)


def _explained(exit_status: int) -> str:
    if exit_status < 0:
        return f"by signal {-exit_status}"
    meaning = next((f": {known.meaning}" for known in ExitStatus if known == exit_status), "")
    return f"with status {exit_status}{meaning}"


def _keeper(*, dry_run: bool) -> ServiceKeeper:
    """The keeper here. It has answered, unless it is only to show what it would do."""
    keeper = keeper_here(only_to_show=dry_run)
    if not dry_run:
        keeper.status()  # one that cannot be asked would leave things half done
    return keeper


def _tell(order: Callable[[ServiceKeeper], list[Step]], done: str, *, dry_run: bool) -> int:
    from executor.commands.output import print_line

    keeper = keeper_here(only_to_show=dry_run)
    if not dry_run and keeper.status().state == "not installed":
        raise ConfigError("the service is not installed", hint="wegent-executor service install")
    if _carry_out(order(keeper), dry_run=dry_run):
        print_line(done)
    return ExitStatus.OK


def _carry_out(steps: Sequence[Step], *, dry_run: bool) -> bool:
    """Do *steps*, or only show them; tells whether they have been done."""
    from executor.commands.output import print_line
    from executor.service.steps import described, perform, run_program

    if dry_run:
        for line in described(steps):
            print_line(line)
        return False
    perform(steps, run=run_program)
    return True


def _settings_of_a_service() -> tuple[LocalSettings, list[str]]:
    """The settings as a service reads them, and the names of variables that only this shell has.

    Raises:
        ConfigError: ``config.env`` alone does not do.
    """
    from dotenv import dotenv_values

    from executor.config.loading import CONFIG_FILE, load_settings
    from executor.config.local import LocalSettings
    from executor.config.problems import WrongSettings
    from executor.config.sources import VARIABLES
    from executor.network.variables import NETWORK_VARIABLES

    file = executor_home() / CONFIG_FILE
    ours = VARIABLES - {HOME_VARIABLE}  # which the service is given
    try:
        with _without(name for name in list(os.environ) if name.upper() in ours):
            settings = load_settings()
    except WrongSettings as exc:
        raise ConfigError(
            "; ".join(problem.what for problem in exc.problems),
            hint="a service has no shell's environment: what it needs has to be in "
            f"{file}, as KEY=value lines",
        ) from None
    if not isinstance(settings, LocalSettings):
        raise ConfigError(
            f"{file} names no backend: a service runs in local mode",
            hint="it needs WEGENT_BACKEND_URL and WEGENT_AUTH_TOKEN, as KEY=value lines",
        )
    in_file = {
        name.upper() for name, value in dotenv_values(file, encoding="utf-8").items() if value
    }
    here = {name for name in os.environ if name.upper() in {*ours, *NETWORK_VARIABLES}}
    return settings, sorted(name for name in here if name.upper() not in in_file)


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    """Take variables out of this process's environment, and put them back at the end."""
    held = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(held)


def _service(settings: LocalSettings, environ: Mapping[str, str]) -> Service:
    from executor.packaged.frozen import unpacked_folder
    from executor.service.definition import Service
    from executor.service.timing import stop_limit_s

    folders = dict.fromkeys(filter(os.path.isabs, environ.get("PATH", "").split(os.pathsep)))
    # Agents find their tools as the user does; systemd and launchd know only the system's.
    environment = {"PATH": os.pathsep.join(folders)} if folders else {}
    if settings.home != default_home():
        environment[HOME_VARIABLE] = str(settings.home)
    return Service(
        command=(str(_program(settings.home)), "run"),
        unpacks_itself=unpacked_folder() is not None,
        environment=environment,
        stop_limit_s=stop_limit_s(settings.shutdown_grace_s),
    )


def _program(home: Path) -> Path:
    """This program, by a path that stays the same when it is updated."""
    import shutil

    from executor.packaged.frozen import is_frozen
    from executor.service.definition import NAME

    this = Path(sys.executable)
    suffix = ".exe" if sys.platform == "win32" else ""
    if not is_frozen():
        script = this.with_name(NAME + suffix)
        if script.is_file():
            return script
        raise ConfigError(
            f"there is no {script} that a service could start",
            hint="install the program, or use the one that is made of one file",
        )
    found = shutil.which(NAME)
    known = [home / "bin" / (NAME + suffix), *([Path(found).absolute()] if found else [])]
    return next((path for path in known if path.exists() and path.samefile(this)), this)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(
        name: str,
        act: Callable[[argparse.Namespace], int],
        text: str,
        more: str = "",
        *,
        force: str | None = None,
    ) -> argparse.ArgumentParser:
        described = f"{text[0].upper()}{text[1:]}. {more}".strip()
        action = actions.add_parser(
            name,
            help=text,
            description=described,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        action.set_defaults(act=act)
        if act is not status:
            shown = "show what would be written and run, and do nothing"
            action.add_argument("--dry-run", action="store_true", help=shown)
        if force is not None:
            action.add_argument("--force", action="store_true", help=force)
        return action

    add(
        "install",
        install,
        "have the executor start when its user logs in",
        "Refuses when config.env lacks a setting that is required. The service gets the PATH of "
        "this shell, so that agents find what you find: install it again when that has changed.",
        force="replace what somebody else has made or changed",
    )
    add(
        "uninstall",
        uninstall,
        "stop and remove it",
        "The executor's home stays, and so does what you have added to the unit.",
        force="remove it though it was changed",
    )
    add("start", start, "start it now", "Where systemd looks after it, waits until it is set up.")
    add(
        "stop",
        stop,
        "stop it until it is started or its user logs in again",
        "Runs get LOCAL_SHUTDOWN_GRACE_SECONDS to finish. On Windows it is ended at once, and a "
        "login does not start it either.",
    )
    add("status", status, "show how it stands").add_argument(
        "--json", action="store_true", help="print one JSON document"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    act: Callable[[argparse.Namespace], int] = arguments.act
    return act(arguments)


COMMAND: Final = Command(
    name="service",
    help="have the machine start the executor and look after it",
    description="Install the executor as a service of this user: a systemd unit on Linux, an agent "
    "of launchd on macOS, a scheduled task on Windows. Its settings are those in config.env: a "
    "service has no shell's environment. On Linux it is started again when it has no contact with "
    "its backend and makes no attempts to get it.",
    run=run,
    add_arguments=_add_arguments,
)
