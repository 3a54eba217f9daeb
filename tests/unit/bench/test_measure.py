from __future__ import annotations

import pytest

from bench._lag import processor_share, within
from bench._measure import Figure, Summary, percentile, table


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 10), (95, 19), (96, 20), (99, 20), (100, 20)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(20, 0, -1)], percent) == expected


def test_a_summary_of_one_value_is_that_value() -> None:
    assert Summary.of([3.0]) == Summary(n=1, median=3.0, p95=3.0, p99=3.0, max=3.0)


def test_an_aim_is_judged_by_the_number_it_names() -> None:
    sample = Summary.of([1.0, 2.0, 60.0])
    assert Figure("x", "ms", sample, aim=50).verdict == "met"
    assert Figure("x", "ms", sample, aim=50, judged="max").verdict == "MISSED"
    assert Figure("x", "ms", sample).verdict == ""


def test_a_table_names_every_figure_with_its_aim() -> None:
    header, row = table([Figure("start", "ms", Summary.of([12.345]), aim=600)])
    assert header.split() == ["unit", "n", "median", "p95", "p99", "max", "aim"]
    assert row.split() == ["start", "ms", "1", *["12.35"] * 4, "median", "<=", "600", "met"]


def test_lag_and_processor_time_count_within_the_measured_time_only() -> None:
    samples = [(0.0, 9.0, 0.0), (1.0, 0.001, 0.0), (3.0, 0.002, 1.0), (4.0, 9.0, 9.0)]
    assert within(samples, 1.0, 3.0) == [1.0, 2.0]
    assert processor_share(samples, 1.0, 3.0) == 0.5
