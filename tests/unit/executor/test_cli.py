"""The command: what it prints, how it ends, and what it does not load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.cli import main
from shared.version import __version__

Run = Callable[..., subprocess.CompletedProcess[str]]

SETTINGS = {"WEGENT_BACKEND_URL": "http://127.0.0.1:1", "WEGENT_AUTH_TOKEN": "a-token-for-tests"}


@pytest.fixture
def run(repository_root: Path, tmp_path: Path) -> Run:
    """Runs Python in the checkout with a home and an environment of its own."""

    def run_(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=repository_root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": ".",
                "WEGENT_EXECUTOR_HOME": str(tmp_path / "home"),
                **settings,
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run_


def program(work: str, *, name: str = "run_local") -> str:
    """The command with *work* in the place of the whole executor behind it."""
    return textwrap.dedent(
        """
        import asyncio, os, signal, sys, types
        from shared.errors import *
        bootstrap = types.ModuleType("executor.bootstrap.local")
        async def {name}(settings, stop, redactor):
        {work}
        bootstrap.{name} = {name}
        sys.modules["executor.bootstrap.local"] = bootstrap
        from executor.main import main
        main()
        """
    ).format(name=name, work=textwrap.indent(textwrap.dedent(work).strip(), "    "))


@pytest.mark.parametrize(
    "entry", [("executor/main.py",), ("-m", "executor.main")], ids=["script", "module"]
)
def test_every_entry_tells_the_version(run: Run, entry: tuple[str, ...]) -> None:
    done = run(*entry, "--version")

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"wegent-executor {__version__}\n",
        "",
    )


def test_as_a_script_the_programs_own_folder_hides_no_package(run: Run) -> None:
    done = run(
        "-c",
        "import runpy, sys; sys.path[0] = 'executor'\n"
        "runpy.run_path('executor/main.py')\n"
        "print([p for p in sys.path if p.endswith('executor')])",
    )

    assert done.stdout.endswith("[]\n"), done.stderr


def test_help_names_what_has_to_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "WEGENT_BACKEND_URL" in text
    assert "WEGENT_AUTH_TOKEN" in text


@pytest.mark.parametrize("argument", ["--nope", "start", "--vers"])
def test_unknown_arguments_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 2
    assert argument in capsys.readouterr().err


def test_version_loads_none_of_the_heavy_libraries(run: Run) -> None:
    done = run(
        "-c",
        "import sys\nfrom executor.cli import main\nmain(['--version'])\n"
        "print({'pydantic', 'aiohttp', 'socketio', 'asyncio'} & set(sys.modules))",
    )

    assert done.stdout.splitlines()[1] == "set()", done.stderr


def test_local_mode_loads_neither_a_web_server_nor_the_agents_sdk(run: Run) -> None:
    done = run(
        "-c",
        "import sys\nimport executor.main, executor.bootstrap.local\n"
        "print({'fastapi', 'starlette', 'uvicorn', 'claude_agent_sdk', 'mcp', 'sqlalchemy'}"
        " & set(sys.modules))",
    )

    assert done.stdout == "set()\n", done.stderr


def test_local_mode_loads_no_settings_and_no_agent_of_others(run: Run) -> None:
    work = """
        import sys
        others = {"executor.config.docker", "executor.agents.agno.agent", "fastapi"}
        print(others & set(sys.modules))
    """
    done = run("-c", "import executor.bootstrap.runs\n" + program(work), **SETTINGS)

    assert done.stdout == "set()\n", done.stderr


def test_nothing_is_collected_while_modules_are_loaded_and_only_what_is_new_later(run: Run) -> None:
    seen = textwrap.dedent(
        """
        import gc, sys
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name in ("executor.bootstrap.process", "shared.redaction"):
                    print(gc.isenabled())
        sys.meta_path.insert(0, Finder)
        """
    )
    work = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    done = run("-c", seen + program(work), **SETTINGS)

    assert done.stdout.split() == ["False", "False", "True", "True"], done.stderr


def test_the_executor_itself_runs_without_what_only_other_commands_show_with(run: Run) -> None:
    work = """
        import executor.modes.local.runner, executor.tasks.supervisor
        import sys
        print(sorted(name for name in sys.modules if name.startswith("rich.")))
    """
    done = run("-c", program(work), **SETTINGS)

    assert done.stdout == "[]\n", done.stderr


def test_missing_settings_end_with_2_and_one_message_without_a_trace(run: Run) -> None:
    done = run("-m", "executor.main", EXECUTOR_MODE="local", WEGENT_AUTH_TOKEN="a-token")

    assert done.returncode == 2
    assert done.stderr.count("WEGENT_BACKEND_URL is not set") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("work", "status"),
    [
        ("pass", 0),
        ("raise ConfigError('change something')", 2),
        ("raise LinkRejected('not you')", 77),
        ("raise LinkLost('gone')", 1),
        ("raise ZeroDivisionError", 1),
        ("raise ExceptionGroup('', [OSError(), ExceptionGroup('', [LinkRejected('no')])])", 77),
    ],
)
def test_the_exit_status_says_how_it_ended(run: Run, work: str, status: int) -> None:
    assert run("-c", program(work), **SETTINGS).returncode == status


def test_an_error_is_said_once_and_its_trace_is_in_the_log_only(run: Run, tmp_path: Path) -> None:
    done = run("-c", program("raise RuntimeError('the sky falls')"), **SETTINGS)

    assert done.stderr.count("the sky falls") == 1
    assert "Traceback" not in done.stderr
    log = (tmp_path / "home" / "logs" / "executor.log").read_text()
    assert "Traceback" in log
    assert "the sky falls" in log


@pytest.mark.parametrize(("level", "shown"), [("INFO", False), ("DEBUG", True)])
def test_where_a_command_has_a_fault_is_shown_to_whoever_wants_to_know(
    run: Run, level: str, shown: bool
) -> None:
    work = """
        from executor.commands import config
        def fault(arguments): raise ZeroDivisionError("by a half")
        config.COMMAND = config.COMMAND._replace(run=fault)
        from executor import cli
        raise SystemExit(cli.main(["config"]))
    """
    done = run("-c", textwrap.dedent(work), LOG_LEVEL=level)

    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].endswith("an error that should not happen: ZeroDivisionError: by a half")
    assert ("in fault" in done.stderr) == shown
    assert ("LOG_LEVEL=DEBUG" in done.stderr) != shown


def test_at_debug_the_trace_is_shown(run: Run) -> None:
    done = run("-c", program("raise LinkRejected('not you')"), LOG_LEVEL="DEBUG", **SETTINGS)

    assert "Traceback" in done.stderr


def test_the_token_reaches_neither_the_console_nor_the_log(run: Run, tmp_path: Path) -> None:
    work = "raise RuntimeError(settings.auth_token.get_secret_value())"
    done = run("-c", program(work), LOG_LEVEL="DEBUG", **SETTINGS)

    log = (tmp_path / "home" / "logs" / "executor.log").read_text()
    assert "RuntimeError: ***" in log
    assert SETTINGS["WEGENT_AUTH_TOKEN"] not in log + done.stderr


def test_a_config_file_that_others_can_read_is_a_warning(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.env").write_text("LOG_LEVEL=INFO\n")
    (home / "config.env").chmod(0o644)

    done = run("-c", program("pass"), **SETTINGS)

    assert done.returncode == 0
    assert f"chmod 600 {home / 'config.env'}" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_a_clean_stop_ends_with_0(run: Run, number: int) -> None:
    work = f"""
        os.kill(os.getpid(), {int(number)})
        await stop.first.wait()
        print("asked", stop.second.is_set())
    """
    done = run("-c", program(work), **SETTINGS)

    assert (done.returncode, done.stdout) == (0, "asked False\n"), done.stderr


def test_the_second_signal_ends_at_once_after_cleaning_up(run: Run) -> None:
    work = """
        os.kill(os.getpid(), signal.SIGINT)
        await stop.first.wait()
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            print("cleaned up")
    """
    done = run("-c", program(work), **SETTINGS)

    assert (done.returncode, done.stdout) == (130, "cleaned up\n"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module", ["executor.cli", "executor.config.settings", "executor.bootstrap.local"]
)
def test_a_signal_stops_the_program_while_it_is_still_being_imported(
    run: Run, tmp_path: Path, module: str, number: int
) -> None:
    signalled = f"""
import os, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder)
from executor.main import main
main()
"""
    done = run("-c", signalled, **SETTINGS)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "home" / "state.db").exists()


def test_a_thread_that_nobody_can_end_does_not_hold_up_the_end(run: Run) -> None:
    work = """
        import time
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    """
    done = run("-c", program(work), **SETTINGS)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("signals", "status"), [(1, 1), (2, 130)], ids=["overdue", "insisted"])
def test_a_stop_that_does_not_end_is_broken_off(run: Run, signals: int, status: int) -> None:
    work = f"""
        for _ in range({signals}):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("told", flush=True)
    """
    limits = (
        "import executor.commands.run as run\nrun.LAST_STEPS_S = 0.1\nrun.STOP_WITHIN_S = 0.1\n"
    )
    done = run("-c", limits + program(work), LOCAL_SHUTDOWN_GRACE_SECONDS="0", **SETTINGS)

    assert (done.returncode, done.stdout) == (status, "told\n"), done.stderr
    assert ("is broken off" in done.stderr) == (status == 1)


def test_logins_that_agents_inherit_are_masked_in_every_line_and_every_run(run: Run) -> None:
    inherited = {
        "https_proxy": "http://me:the-proxy-password@127.0.0.1:1",
        "CLAUDE_CODE_OAUTH_TOKEN": "the-login-of-claude",
    }
    work = """
    said = "the-proxy-password the-login-of-claude a-token-for-tests"
    print(redactor.redact(said), redactor.open_run([]).redact(said))
    """
    done = run("-c", program(work), **SETTINGS, **inherited)

    assert done.stdout.split() == ["***"] * 6, done.stderr
