"""Rows of a real ablation side by side: trained by workers, on images that their own configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import Project
from ruamel.yaml import YAML

from study.experiments.comparison.comparison import compare
from study.experiments.comparison.page import write
from study.experiments.comparison.verdicts import judge

FILE = {
    "description": "learning rate, and which digits are told apart",
    "base": {"params": "params.yaml"},
    "seeds": 2,
    "factors": {
        "train.lr": {"values": [0.0001]},
        "classes": {"bundles": {"four": {"data.merge": [[0, 6], [1, 7], [2, 3, 5, 8], [4, 9]]}}},
    },
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path, "ablate-mine", train={"epochs": 4, "batch_size": 32, "lr": 0.01})
    YAML(typ="safe").dump(FILE, tmp_path / "mine.yaml")
    return made


def test_rows_of_an_ablation_are_paired_by_seed_where_they_share_their_images(project) -> None:
    ended = project.study("ablate", "mine.yaml")
    assert ended.returncode == 0, ended.stderr
    base, merged, slow = sorted({run.origin for run in project.history.planned})  # base, classes-four, lr-0_0001
    opened = sorted(project.root.rglob("test_openings.jsonl"))
    told = compare([f"ablate-mine/{row}" for row in (base, slow, merged)], project.root, {})
    (item,) = told.contrasts
    assert (item.second.label, item.seeds and item.seeds.n) == (f"ablate-mine/{slow}", 2)
    assert item.main.value < 0
    assert not told.unlike
    assert [setting.key for setting in told.settings] == ["data.merge", "train.lr"]
    assert "has 4 classes" in told.left_out[f"ablate-mine/{merged}"]
    assert any("not comparable" in verdict.title for verdict in judge(told))
    page = write(told, project.root).read_text()
    assert f"ablate-mine/{merged}" in page
    assert sorted(project.root.rglob("test_openings.jsonl")) == opened
