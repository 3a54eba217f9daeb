"""What a restart knows of the containers before it."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from shared.containers.records import Record, Records

RECORD = Record(
    container_id="abc",
    session_id="7",
    mode="persistent",
    image="image",
    directory=Path("/srv/7"),
    runs=("71", "72"),
    token=SecretStr("opens the container"),
)


async def test_what_was_written_is_read_with_its_token(tmp_path: Path) -> None:
    await Records(tmp_path / "state").write(RECORD)
    assert await Records(tmp_path / "state").read() == {"abc": RECORD}


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    await Records(tmp_path / "state").write(RECORD)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "abc.json").stat().st_mode & 0o777 == 0o600


async def test_what_is_damaged_is_deleted_and_the_rest_is_read(tmp_path: Path) -> None:
    records = Records(tmp_path)
    await records.write(RECORD)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "strange.json").write_text("[]")
    assert list(await records.read()) == ["abc"]
    assert [path.name for path in tmp_path.iterdir()] == ["abc.json"]


async def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    records = Records(tmp_path)
    await records.write(RECORD)
    await records.forget("abc")
    await records.forget("abc")
    assert await records.read() == {}


async def test_what_the_disk_does_not_give_or_let_go_of_stays_and_harms_nothing(
    tmp_path: Path,
) -> None:
    records = Records(tmp_path)
    await records.write(RECORD)
    stuck = tmp_path / "stuck.json"
    stuck.mkdir()  # nobody can read or delete it as a file
    assert list(await records.read()) == ["abc"]
    await records.forget("stuck")
    assert stuck.exists()
