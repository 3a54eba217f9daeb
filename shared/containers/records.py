"""Which container serves which session, written down so that a restart finds out.

Labels cannot say it: a container that was warm had no session when it got its labels.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer

from shared.containers.errors import ContainerError
from shared.containers.spec import ContainerMode
from shared.logging import get_logger
from shared.private_files import make_private_directory, write_private_file

logger = get_logger("containers")

_SUFFIX: Final = ".json"


class Record(BaseModel):
    """What is to be known of a container after a restart.

    Attributes:
        runs: Which runs hold it.
        token: Opens the API of this one container.
    """

    model_config = ConfigDict(frozen=True)

    container_id: str
    session_id: str
    mode: ContainerMode
    image: str
    directory: Path
    runs: tuple[str, ...]
    token: SecretStr

    @field_serializer("token", when_used="json")
    def _reveal(self, token: SecretStr) -> str:
        return token.get_secret_value()


class Records:
    """The folder of them: a file for each container, which only its owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, record: Record) -> None:
        """Replace what is known of a container.

        Raises:
            ContainerError: The disk cannot take it.
        """
        try:
            await asyncio.to_thread(self._write, record)
        except OSError as exc:
            raise ContainerError(
                f"a container cannot be written down: {exc.strerror}",
                hint="is there room in the executor's home?",
            ) from exc

    async def forget(self, container_id: str) -> None:
        """Delete what is known of a container; harmless when that is nothing.

        A disk that does not let go of it keeps it, for the next sweep.
        """
        await asyncio.to_thread(_delete, self._path(container_id))

    async def read(self) -> dict[str, Record]:
        """All of them, by container; those that are damaged are deleted."""
        return await asyncio.to_thread(self._read)

    def _path(self, container_id: str) -> Path:
        return self._folder / f"{container_id}{_SUFFIX}"

    def _write(self, record: Record) -> None:
        make_private_directory(self._folder)
        write_private_file(self._path(record.container_id), record.model_dump_json())

    def _read(self) -> dict[str, Record]:
        records: dict[str, Record] = {}
        for path in self._folder.glob(f"*{_SUFFIX}"):
            try:
                record = Record.model_validate(json.loads(path.read_bytes()))
            except OSError as exc:  # it may be read later: a run may depend on it
                logger.warning("%s cannot be read: %s", path, exc.strerror)
            except (ValueError, ValidationError):
                logger.warning("what is known of the container %s is damaged", path.stem)
                _delete(path)
            else:
                records[record.container_id] = record
        return records


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        logger.warning("%s cannot be deleted: %s", path, exc.strerror)
