"""What a running study shows."""

import pytest

from study.engine.live import duration, sparkline


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([0.5], "▁"), ([0.5, 0.5], "▁▁"), ([0.0, 1.0], "▁█"), ([0.0, 0.5, 1.0], "▁▅█"), ([1.0, 0.0], "█▁")],
)
def test_a_curve_spans_the_bars_from_its_lowest_to_its_highest(values, line) -> None:
    assert sparkline(values) == line


def test_of_a_long_curve_the_last_values_are_shown() -> None:
    assert len(sparkline([n / 100 for n in range(100)], width=16)) == 16


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1 h 00 min"), (7260, "2 h 01 min")]
)
def test_durations_as_people_write_them(seconds, text) -> None:
    assert duration(seconds) == text
