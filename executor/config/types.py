"""What the values of settings may be: checked as they are read, refused without showing them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from executor.config.home import absolute
from executor.tasks.allowed_hosts import read_hosts


def _directory(path: Path) -> Path:
    path = absolute(path)
    try:
        wrong = path.exists() and not path.is_dir()
    except PermissionError:
        wrong = False  # a folder above it is closed to this user; `doctor` says what to do
    if wrong:
        raise ValueError("is not a directory")
    return path


def _bare_name(name: str) -> str:
    if name in {".", ".."} or "/" in name or "\\" in name:
        raise ValueError(
            "must be a file name without a folder; the folder is WEGENT_EXECUTOR_LOG_DIR"
        )
    return name


def url(*schemes: str) -> AfterValidator:
    """Accept an address with one of *schemes* and maybe a path, and nothing else in it."""

    def check(value: str) -> str:
        value = value.strip().rstrip("/")
        if not value.isprintable() or " " in value:
            raise ValueError("contains a space or a control character")
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  raises when it is not a number
        except ValueError:
            raise ValueError("is not a URL: check host and port") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError("must begin with " + " or ".join(f"{name}://" for name in schemes))
        if "@" in parts.netloc:
            raise ValueError(
                "must not contain a user name or password; a token has its own variable"
            )
        if parts.query or parts.fragment:
            raise ValueError("must not contain ? or #")
        return parts.geturl()

    return AfterValidator(check)


def _token(value: SecretStr) -> SecretStr:
    token = re.sub(r"^bearer(\s+|$)", "", value.get_secret_value().strip(), flags=re.IGNORECASE)
    if not token:
        raise ValueError("is empty")
    if not token.isprintable() or " " in token:
        raise ValueError("contains a space or a control character; was it copied completely?")
    return SecretStr(token)


def read_token(file: Path) -> SecretStr:
    """The token in *file*, which may end in a line feed. Blocks for as long as the disk takes.

    Raises:
        ValueError: There is none; does not say what is there instead.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not text") from None
    return _token(SecretStr(text))


def _token_file(path: Path) -> Path:
    read_token(path)
    return path


def _json_object(value: SecretStr) -> SecretStr:
    try:
        found = json.loads(value.get_secret_value())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return value


def _hosts(value: str) -> str:
    read_hosts(value)
    return value


def class_names(value: str) -> list[str]:
    """The names in *value*: ``module:Class``, separated by commas.

    Raises:
        ValueError: It has another form.
    """
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not all(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", name) for name in names):
        raise ValueError("must be module:Class, several separated by commas")
    return names


def _classes(value: str) -> str:
    class_names(value)
    return value


def _bytes(value: object) -> object:
    """A number with one of Docker's units, or none."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)i?b?", value.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError("must be a size, such as 512m or 4g")
    return int(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")


def image_names(value: str) -> frozenset[str]:
    """The images in *value*, separated by commas.

    Raises:
        ValueError: One of them cannot be the name of an image.
    """
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    if not all(re.fullmatch(r"[a-z0-9][\w./:@-]*", name) for name in names):
        raise ValueError("must be names of images, several separated by commas")
    return names


def _images(value: str) -> str:
    image_names(value)
    return value


def _image(value: str) -> str:
    if len(image_names(value)) != 1:
        raise ValueError("must be the name of one image")
    return value


def one_of(*values: str) -> BeforeValidator:
    """Accept *values* in any case."""
    by_lower = {value.lower(): value for value in values}

    def canonical(value: object) -> object:
        return by_lower.get(value.strip().lower(), value) if isinstance(value, str) else value

    return BeforeValidator(canonical)


AbsolutePath = Annotated[Path, AfterValidator(absolute)]
Directory = Annotated[Path, AfterValidator(_directory)]
"""A folder, or a place where one can be made."""
FileName = Annotated[str, AfterValidator(_bare_name)]
Token = Annotated[SecretStr, AfterValidator(_token)]
"""A token or key, without a leading ``Bearer``."""
HookClasses = Annotated[str, AfterValidator(_classes)]
"""Names for :func:`class_names`."""
Image = Annotated[str, AfterValidator(_image)]
"""The name of an image, as Docker takes it."""
Images = Annotated[str, AfterValidator(_images)]
"""Names for :func:`image_names`."""
Memory = Annotated[int, BeforeValidator(_bytes), Field(ge=64 * 2**20, le=2**50)]
"""Bytes; written with Docker's units."""
Hosts = Annotated[str, AfterValidator(_hosts)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)]
TokenFile = Annotated[Path, AfterValidator(absolute), AfterValidator(_token_file)]
"""A file with a token in it."""
JsonObject = Annotated[SecretStr, AfterValidator(_json_object)]
"""A JSON object as text, which may have secrets in it."""
