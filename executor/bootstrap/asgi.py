"""Docker mode for a server that somebody else starts: ``uvicorn executor.main:app``."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from executor.bootstrap.docker import opened, read_first_task
from executor.bootstrap.home import opened_home
from executor.bootstrap.process import prepare_process
from executor.config.docker import DockerSettings
from executor.config.loading import load_settings
from executor.modes.docker.app import create_app
from executor.signals import StopSignals
from shared.errors import ConfigError, WegentError
from shared.logging import get_logger

logger = get_logger("task_executor")


def build_app() -> FastAPI:
    """The application, which opens everything when it is started, and drains at its end.

    Where it listens is the server's to say. Ends the process with one message when the settings
    are wrong; what else cannot be used is told when the server starts it, which then ends.
    """
    try:
        return _app(_docker_settings())
    except ConfigError as exc:
        sys.stderr.write(f"wegent-executor: {exc}\n")
        raise SystemExit(2) from None


def _app(settings: DockerSettings) -> FastAPI:
    first_task = read_first_task(settings)
    redactor, logs = prepare_process(settings)
    # Where it listens is told there, by the server's own handler.
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    if first_task is not None and first_task.ends:
        logger.warning("exit_on_completion: a server that somebody else starts goes on")
    if reloads_on_work(settings, sys.argv):
        logger.warning(
            "--reload: this server starts anew, in the middle of their work, when agents write .py "
            "files: set WORKSPACE_ROOT to a folder elsewhere, or add --reload-dir executor"
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = StopSignals()  # the server listens for signals: this one is never told
        try:
            async with opened_home(settings, stop) as home:
                if home is None:
                    return
                async with opened(settings, home, stop, redactor) as mode:
                    app.state.services = mode.service.routes
                    if first_task is not None:
                        await first_task.start(mode.service.routes.runs)
                    yield
                    await mode.drain()
        except WegentError as exc:
            logger.error("%s", exc)  # noqa: TRY400 - it says what to do
            raise
        finally:
            logs.close()

    app = create_app(settings.token, lifespan)
    app.add_middleware(ToldErrors)
    return app


class ToldErrors:
    """Tells the server that the application has failed, without the text of an error of our own.

    That is in the log. The server would show it once more, with a traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: Message | None = None

        async def hold_back(message: Message) -> None:
            nonlocal failed
            if message["type"].endswith(".failed"):
                failed = message  # the error follows
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_back)
        except BaseException as exc:
            if failed is not None:
                told = {"message": ""} if isinstance(exc, WegentError) else {}
                await send({**failed, **told})
            raise


def reloads_on_work(settings: DockerSettings, command: Sequence[str]) -> bool:
    """Whether uvicorn, started by *command*, watches the folder in which agents work."""
    watched = "--reload" in command and not any(part.startswith("--reload-dir") for part in command)
    place = settings.only_session_dir or settings.workspace_root
    return watched and place.resolve().is_relative_to(Path.cwd())


def _docker_settings() -> DockerSettings:
    settings = load_settings()
    if not isinstance(settings, DockerSettings):
        raise ConfigError(
            "executor.main:app is docker mode, and the settings are those of local mode",
            hint="unset WEGENT_BACKEND_URL, WEGENT_AUTH_TOKEN and EXECUTOR_MODE, or set "
            "EXECUTOR_MODE=docker",
        )
    return settings
