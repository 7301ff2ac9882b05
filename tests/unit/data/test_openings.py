"""The log of openings of the test set: each counts, whatever became of the process that wrote it."""

import resource

import numpy as np
import pytest

from pipeline.data.dataset import Split, open_test


@pytest.fixture
def folder(tmp_path):
    Split(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1])).write(tmp_path, "test")
    return tmp_path


def test_openings_are_counted_for_each_data_set(folder, tmp_path) -> None:
    log = tmp_path / "new" / "openings.jsonl"
    counts = [open_test(folder, log, fingerprint, "run 1")[1] for fingerprint in ("a", "b", "a", "a")]
    assert counts == [1, 1, 2, 3]
    assert len(open_test(folder, log, "b", 'a run called "fingerprint": "a"')[0]) == 2
    assert open_test(folder, log, "a", "run 2")[1] == 4


def test_a_line_that_a_killed_process_left_half_written_was_no_opening(folder, tmp_path) -> None:
    log = tmp_path / "openings.jsonl"
    open_test(folder, log, "a", "run 1")
    whole = log.read_text()
    log.write_text(whole + whole[:40])
    assert open_test(folder, log, "a", "run 2")[1] == 2
    assert len(log.read_text().splitlines()) == 2


def test_an_opening_that_cannot_be_written_down_does_not_happen(folder, tmp_path) -> None:
    log = tmp_path / "openings.jsonl"
    open_test(folder, log, "a", "run 1")
    whole = log.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, hard))  # as a disk with room for ten bytes more
    try:
        with pytest.raises(OSError, match="File too large"):
            open_test(folder, log, "a", "run 2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.read_bytes() == whole
    assert open_test(folder, log, "a", "run 2")[1] == 2
