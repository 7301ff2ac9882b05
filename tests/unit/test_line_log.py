"""An append-only log: whole records, one holder, and no bit that flips unseen."""

import json

import pytest

from pipeline import line_log
from pipeline.artifacts import DamagedError

RECORDS = [{"kind": "created", "text": "ü", "n": 1.5}, {"kind": "epoch", "epoch": {"loss": 0.25}}, {"kind": "ended"}]


def written(path):
    with line_log.opened(path) as log:
        for record in RECORDS:
            log.append(record)
    return path


def flips(content: bytes):
    for index in range(len(content)):
        for bit in range(8):
            yield index, content[:index] + bytes([content[index] ^ 1 << bit]) + content[index + 1 :]


def test_records_are_read_as_they_were_written(tmp_path) -> None:
    path = written(tmp_path / "new" / "log.jsonl")
    assert line_log.read(path) == (RECORDS, path.stat().st_size)
    assert [list(json.loads(line))[-1] for line in path.read_text().splitlines()] == ["crc"] * 3


def test_no_flipped_bit_of_a_log_is_accepted_by_readers_or_by_the_next_holder(tmp_path) -> None:
    path = written(tmp_path / "log.jsonl")
    for index, damaged in flips(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"log\.jsonl is damaged"):
            line_log.read(path)
        try:
            with line_log.opened(path):
                pass
        except DamagedError:
            pass
        assert path.read_bytes() == damaged, f"opening it changed a log damaged at byte {index}"


def test_a_log_of_an_earlier_version_has_no_checksums_and_is_gone_on_with(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    with line_log.opened(path) as log:
        log.append({"kind": "closed"})
    assert line_log.read(path)[0] == [*RECORDS, {"kind": "closed"}]


def test_what_is_cut_off_anywhere_leaves_the_whole_records_before_it(tmp_path) -> None:
    path = written(tmp_path / "log.jsonl")
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole = content[:size].count(b"\n")
        assert line_log.read(path)[0] == RECORDS[:whole]
        with line_log.opened(path) as log:
            log.append({"kind": "next"})
        assert line_log.read(path)[0] == [*RECORDS[:whole], {"kind": "next"}]


def test_a_number_that_is_no_json_is_written_only_where_it_is_allowed(tmp_path) -> None:
    with line_log.opened(tmp_path / "log.jsonl") as log:
        with pytest.raises(ValueError, match="JSON"):
            log.append({"x": float("nan")})
        log.append({"x": float("inf")}, allow_nan=True)
    assert line_log.read(tmp_path / "log.jsonl")[0] == [{"x": float("inf")}]
