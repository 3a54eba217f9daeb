"""What is said of a container that has ended."""

from __future__ import annotations

import pytest

from shared.containers.death import Death
from shared.containers.errors import ContainerDied
from shared.status import ErrorCode


@pytest.mark.parametrize(
    ("death", "sentence"),
    [
        (Death(exit_code=3), "the container ended with exit code 3"),
        (Death(exit_code=137, out_of_memory=True), "the container ran out of memory"),
        (
            Death(exit_code=255, engine_lost=True),
            "the container ended because its engine went away",
        ),
        (Death(removed=True), "the container was removed by somebody else"),
        (Death(), "the container ended"),
        (Death(exit_code=1, log=("first", "last")), "the container ended with exit code 1: last"),
    ],
)
def test_a_death_is_told_in_words(death: Death, sentence: str) -> None:
    assert death.sentence == sentence


def test_running_out_of_memory_has_a_code_of_its_own() -> None:
    assert ContainerDied(Death(out_of_memory=True)).error_code is ErrorCode.OUT_OF_MEMORY
    assert ContainerDied(Death(exit_code=1)).error_code is ErrorCode.CONTAINER_FAILED
