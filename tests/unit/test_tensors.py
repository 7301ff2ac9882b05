"""Tensors on disk: what was packed comes back, and no flipped bit does."""

import json

import pytest
import torch
from safetensors.torch import save

from pipeline import tensors
from pipeline.artifacts import DamagedError

STATE = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.int64)}


def test_packed_tensors_are_those_of_a_file_with_their_plain_data(tmp_path):
    content = tensors.pack(STATE, {"x": [1, "ü"]})
    tensors.write_tensors(tmp_path / "t.safetensors", STATE, {"x": [1, "ü"]})
    assert content == (tmp_path / "t.safetensors").read_bytes()
    for found, metadata in (tensors.unpack(content), tensors.read_tensors(tmp_path / "t.safetensors")):
        assert metadata == {"x": [1, "ü"]}
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_the_same_tensors_are_the_same_bytes():
    assert tensors.pack(STATE, {"x": 1}) == tensors.pack(dict(STATE), {"x": 1})


@pytest.mark.parametrize("metadata", [None, {"sha256": "0" * 64, "text": '{"sha256": "'}])
def test_no_flipped_bit_is_accepted(metadata):
    content = tensors.pack(STATE, metadata)
    assert tensors.check(content) == metadata
    for index in range(len(content)):
        for bit in range(8):
            damaged = content[:index] + bytes([content[index] ^ 1 << bit]) + content[index + 1 :]
            with pytest.raises(DamagedError, match="must be those that were written"):
                tensors.unpack(damaged)


def test_what_is_cut_off_or_appended_is_not_accepted():
    content = tensors.pack(STATE)
    for other in (b"", content[:7], content[:100], content[:-1], content + b"\0"):
        with pytest.raises(DamagedError):
            tensors.unpack(other)


def test_a_damaged_file_is_named(tmp_path):
    tensors.write_tensors(tmp_path / "t.safetensors", STATE)
    content = (tmp_path / "t.safetensors").read_bytes()
    (tmp_path / "t.safetensors").write_bytes(content[:-1] + b"\x01")
    with pytest.raises(DamagedError, match=r"t\.safetensors is damaged: .* train this network again"):
        tensors.read_tensors(tmp_path / "t.safetensors")


def test_a_file_of_an_earlier_version_has_no_digest_and_is_read():
    content = save({"a": torch.ones(2)}, {"json": json.dumps({"history": []})})
    found, metadata = tensors.unpack(content)
    assert metadata == {"history": []}
    assert torch.equal(found["a"], torch.ones(2))
