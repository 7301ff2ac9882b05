import os

import pytest
import torch

from pipeline import artifacts


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out"
    with artifacts.atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(FileNotFoundError), artifacts.atomic_folder(target) as folder:
        (folder / "a").rename(folder / "b")
    assert (target / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_behind_is_removed_and_an_old_folder_without_successor_returns(tmp_path):
    target = tmp_path / "out"
    for name in (".out-x/new", ".out-y/old"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".out-y/old/a").write_text("1")
    with pytest.raises(RuntimeError), artifacts.atomic_folder(target):
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_keeps_its_old_content_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        artifacts.write_json(path, {"x": float("nan")})
    assert artifacts.read_json(path) == {"x": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_only_the_last_written_files_are_kept(tmp_path):
    for age, name in enumerate("abc"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (age, age))
    artifacts.keep_newest(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_packed_tensors_are_those_of_a_file_with_their_plain_data(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.int64)}
    content = artifacts.pack(tensors, {"x": [1, "ü"]})
    artifacts.write_tensors(tmp_path / "t.safetensors", tensors, {"x": [1, "ü"]})
    assert content == (tmp_path / "t.safetensors").read_bytes()
    found, metadata = artifacts.unpack(content)
    assert metadata == {"x": [1, "ü"]}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
