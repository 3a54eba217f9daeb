"""The hooks of this executor, from its settings and from what is installed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from pathlib import Path

from executor.config.settings import ExecutorSettings
from executor.config.types import class_names
from executor.hooks.commands import CommandHook, find_commands
from executor.hooks.loading import load_hooks
from executor.hooks.object_storage import StorageSettings, storage_installed
from executor.hooks.runner import HookSource
from executor.hooks.session_files import DirectoryOf
from executor.hooks.todo import TodoHook
from executor.hooks.workspace import TIMEOUT_S, WorkspaceHook
from executor.tasks.hooked import HookedRunHandler
from executor.tasks.run_handler import RunHandler
from shared.logging import get_logger
from shared.redaction import Redactor

logger = get_logger("hooks")


async def with_hooks(
    handler: RunHandler,
    settings: ExecutorSettings,
    environ: Mapping[str, str],
    redactor: Redactor,
    *,
    session_dir: Path | None = None,
) -> HookedRunHandler:
    """*handler* with every hook of this executor; whoever has its supervisor closes both.

    Args:
        environ: The executor's environment.
        session_dir: Where the only session lies; ``None``: each has a folder in the settings'
            ``workspace_root``.

    Raises:
        ConfigError: A hook that is configured cannot be used.
    """
    sources = await asyncio.to_thread(find_hooks, settings, environ, session_dir)
    return HookedRunHandler(handler, sources, redactor, timeout_s=settings.hook_timeout_s)


def find_hooks(
    settings: ExecutorSettings, environ: Mapping[str, str], session_dir: Path | None
) -> list[HookSource]:
    """What :func:`with_hooks` adds. Blocks: it imports what others have written."""
    found = load_hooks(class_names(settings.hooks or ""))
    if _within(settings.home, session_dir or settings.workspace_root):
        logger.debug("no executables as hooks: agents may write in the home")  # as in a container
    else:
        found += [
            HookSource(
                program.name,
                CommandHook,
                functools.partial(CommandHook, program, dict(environ)),
            )
            for program in find_commands(settings.home)
        ]
    if found:
        logger.info("hooks: %s", ", ".join(source.name for source in found))
    if settings.builtin_hooks:
        found += _builtin(settings, _directory_of(settings.workspace_root, session_dir))
    return found


def _builtin(settings: ExecutorSettings, directory_of: DirectoryOf) -> list[HookSource]:
    storage = _storage(settings)
    if storage is not None and not storage_installed():
        logger.warning(
            "S3_BUCKET is set, but nothing is uploaded: the library for it is missing; to have it: "
            "pip install 'wegent-executor[storage]'"
        )
        storage = None
    return [
        HookSource(
            "workspace",
            WorkspaceHook,
            functools.partial(WorkspaceHook, directory_of, storage),
            timeout_s=TIMEOUT_S,
        ),
        HookSource("todo", TodoHook, functools.partial(TodoHook, directory_of)),
    ]


def _storage(settings: ExecutorSettings) -> StorageSettings | None:
    if settings.s3_bucket is None:
        return None
    key, secret = settings.s3_access_key, settings.s3_secret_key
    return StorageSettings(
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        access_key=key.get_secret_value() if key else None,
        secret_key=secret.get_secret_value() if secret else None,
        force_path_style=settings.s3_force_path_style,
    )


def _directory_of(root: Path, session_dir: Path | None) -> DirectoryOf:
    if session_dir is not None:
        return lambda _: session_dir
    root = root.resolve()
    return lambda session_id: root / session_id


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
