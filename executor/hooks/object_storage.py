"""Object storage that speaks S3, through obstore, which is imported only when it is used."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.errors import WegentError

if TYPE_CHECKING:
    from obstore.store import S3Store

REQUEST_TIMEOUT_S = 60


class StorageFailed(WegentError):
    """The storage did not take a file."""

    code = "storage_failed"


class UnusableKey(StorageFailed):
    """No storage can have a file of this name."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Which bucket, and with which key."""

    bucket: str
    region: str
    endpoint: str | None = None
    """``None``: Amazon's."""
    access_key: str | None = None
    """``None``, like :attr:`secret_key`: what the environment of the machine gives."""
    secret_key: str | None = None
    force_path_style: bool = True
    """The bucket is a part of the path, not of the host's name."""

    def __repr__(self) -> str:
        return f"StorageSettings(bucket={self.bucket!r})"  # a key never gets into a log


def storage_installed() -> bool:
    """Whether the library is there. Looks at the disk."""
    return importlib.util.find_spec("obstore") is not None


class ObjectStorage:
    """One bucket; made by :meth:`connect`."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    @classmethod
    async def connect(cls, settings: StorageSettings) -> ObjectStorage:
        """Make a client; nothing is sent yet."""
        return cls(await asyncio.to_thread(_s3, settings))

    async def put(self, key: str, content: bytes | BinaryIO) -> None:
        """Store *content*; what was there before is replaced.

        Raises:
            UnusableKey: *key* has control characters, or parts like ``..``.
            StorageFailed: It was refused, or the storage cannot be reached.
        """
        import obstore

        try:
            await obstore.put_async(self._store, key, content)
        except ValueError as exc:
            raise UnusableKey(f"{key!r} cannot be the name of a stored file") from exc
        except (obstore.exceptions.BaseError, OSError) as exc:
            # The text may hold addresses and answers of any length.
            raise StorageFailed(
                f"{key} was not stored: {type(exc).__name__}",
                hint="check the S3_ variables, and that the bucket exists",
            ) from exc


def _s3(settings: StorageSettings) -> S3Store:
    store: Any = importlib.import_module("obstore.store")
    endpoint = settings.endpoint
    plain = endpoint is not None and endpoint.startswith("http://")
    given = {
        "endpoint": endpoint,
        "access_key_id": settings.access_key,
        "secret_access_key": settings.secret_key,
    }
    made: S3Store = store.S3Store(
        settings.bucket,
        region=settings.region,
        virtual_hosted_style_request=not settings.force_path_style,
        client_options={"timeout": f"{REQUEST_TIMEOUT_S}s", "allow_http": plain},
        **{name: value for name, value in given.items() if value is not None},
    )
    return made
