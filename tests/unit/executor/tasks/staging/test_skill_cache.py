from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from executor.tasks.staging.skill_cache import SkillCache


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def store(cache: SkillCache, content: bytes) -> str:
    part = cache.begin()
    part.file.write(content)
    name = cache.keep(part)
    assert part.file.read() == content
    part.drop()
    part.drop()
    return name


def found(cache: SkillCache, name: str) -> bytes | None:
    file = cache.find(name)
    if file is None:
        return None
    with file:
        return file.read()


def test_an_archive_is_found_by_its_content(tmp_path: Path) -> None:
    cache = SkillCache(tmp_path / "cache")

    assert found(cache, digest(b"one")) is None
    assert store(cache, b"one") == digest(b"one")

    assert found(cache, digest(b"one")) == b"one"
    assert found(SkillCache(tmp_path / "cache"), digest(b"one")) == b"one"


def test_a_file_that_has_changed_is_not_believed(tmp_path: Path) -> None:
    cache = SkillCache(tmp_path)
    name = store(cache, b"one")
    (tmp_path / name).write_bytes(b"two")

    assert found(cache, name) is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_kept_leaves_no_trace(tmp_path: Path) -> None:
    part = SkillCache(tmp_path).begin()
    part.file.write(b"half")
    part.drop()

    assert list(tmp_path.iterdir()) == []


def test_several_may_store_the_same_at_once(tmp_path: Path) -> None:
    caches = [SkillCache(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor() as pool:
        names = list(pool.map(lambda cache: store(cache, b"x" * 100_000), caches))

    assert len(set(names)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [names[0]]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = SkillCache(tmp_path, max_bytes=250)
    old, used = store(cache, b"o" * 100), store(cache, b"u" * 100)
    for name in (old, used):
        os.utime(tmp_path / name, (1, 1))
    assert found(cache, used) is not None

    new = store(cache, b"n" * 100)

    assert {path.name for path in tmp_path.iterdir()} == {used, new}


def test_what_a_killed_executor_left_half_written_goes_after_a_day(tmp_path: Path) -> None:
    cache = SkillCache(tmp_path)
    (tmp_path / ".part-old").write_bytes(b"half")
    os.utime(tmp_path / ".part-old", (1, 1))
    (tmp_path / ".part-new").write_bytes(b"half")

    name = store(cache, b"one")

    assert {path.name for path in tmp_path.iterdir()} == {".part-new", name}
