"""The page of one training of a reproduction: all that the pipeline's report shows of a network, for any recipe."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import artifacts, lineage
from pipeline.config import SHAPES_TRAINING, Evaluate, parse, to_tree
from pipeline.data.dataset import SearchData, Split
from pipeline.epochs import kept
from pipeline.evaluation.assess import assess, write
from pipeline.models import classifier
from pipeline.report import page
from pipeline.report.inputs import Inputs
from pipeline.tracking import Recorded
from pipeline.training import account
from pipeline.verdict import Verdict
from study.engine.arrays import Arrays
from study.state.history import Run
from study.state.records import Lineage

PAGE = "page.html"  # in the folder of a run
KEPT = ("model.json", "weights.safetensors", "weights_epoch1.safetensors")


@dataclass(frozen=True)
class Facts:
    """A training with what its page says of it besides its images.

    lineage : of the study
    place : its data; openings : of their test set, this one included
    recorded : ``run_id``, ``experiment_id`` and ``tracking_uri`` of its run in MLflow; ids are None where it is not recorded
    """

    run: Run
    lineage: Lineage
    place: Arrays
    openings: int
    recorded: Mapping[str, Any]


def write_page(facts: Facts, folder: Path, test: Split, settings: Evaluate) -> None:
    """Judge a finished training on the test images, and write its page beside its weights.

    Parameters
    ----------
    folder : of the run, with the files of its network
    """
    run, place = facts.run, facts.place
    data = SearchData.read(place.search)
    about = _account(facts, sum(data.info.counts["train"]))
    courses = pd.DataFrame(run.epochs, columns=list(account.COLUMNS))
    checks = [Verdict(**verdict) for verdict in artifacts.read_sealed(place.checks)["verdicts"]]
    kept, first = (classifier.load(folder, name) for name in KEPT[1:])
    assessment = assess(kept, first, data, test, facts.openings, about, courses, checks, settings)
    with tempfile.TemporaryDirectory() as name:
        model, evaluation = Path(name, "model"), Path(name, "evaluation")
        model.mkdir()
        for file in KEPT:
            shutil.copyfile(folder / file, model / file)
        courses.to_csv(model / "history.csv", index=False)
        artifacts.write_json(model / "run.json", about)
        with artifacts.atomic_folder(evaluation) as fresh:
            write(assessment, test, fresh)
            artifacts.write_json(fresh / "tracked.json", asdict(Recorded(**{**facts.recorded, "model_uri": None})))
        text = page.render(Inputs.read(place.raw, place.search, place.checks, model, evaluation))
    with artifacts.atomic_path(folder / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _account(facts: Facts, images: int) -> dict[str, Any]:
    """Return the ``run.json`` that the train stage would have written."""
    run, lineage_of_study = facts.run, facts.lineage
    tree = to_tree(parse(run.config.tree))
    seconds, epochs = run.seconds, len(run.epochs)
    best = [0, *(epoch.epoch for epoch in kept(run.epochs, "best"))][-1]
    slot = run.segments[-1].slot if run.segments else "cpu"
    return {
        "name": run.key,
        "key": run.group,
        "params": tree,
        "config_hash": lineage.digest({section: tree[section] for section in SHAPES_TRAINING}),
        "data_fingerprint": run.fingerprint,
        "git_commit": lineage_of_study.git_commit,
        "git_dirty": lineage_of_study.git_dirty,
        "seed": run.seed,
        "parameters": run.parameters,
        "trainable_parameters": run.parameters,
        "multiply_adds": run.multiply_adds,
        "device": "cuda" if slot.startswith("cuda") else "cpu",
        "device_name": slot,
        "threads": run.config.train.threads,
        "environment": dict(lineage_of_study.environment),
        "started": datetime.fromtimestamp(run.asked / 1000, UTC).isoformat(timespec="seconds"),
        "state": "finished",
        "reason": None,
        "best_epoch": best,
        "kept_epoch": run.kept_epoch,
        "epochs_run": epochs,
        "stopped_early": epochs < run.config.train.epochs,
        "seconds": seconds,
        "images_per_second": epochs * images / seconds if seconds else None,
        "model_uri": None,
        **facts.recorded,
    }
