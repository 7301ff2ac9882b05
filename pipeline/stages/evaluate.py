"""DVC stage ``evaluate``: the trained model and the test images → numbers, verdicts, galleries, figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline import artifacts, config
from pipeline.data.dataset import SearchData, Split, open_test
from pipeline.evaluation import drawing
from pipeline.evaluation.assess import Assessment, assess
from pipeline.evaluation.statistics import Proportion
from pipeline.models import classifier
from pipeline.stages import one_line_errors
from pipeline.training.device import choose_device
from pipeline.verdict import Verdict


def main() -> None:
    with one_line_errors():
        params = config.load()
        torch.set_num_threads(params.train.threads)
        device = choose_device(params.train.device)
        data = SearchData.read(artifacts.SEARCH)
        run = artifacts.read_json(artifacts.MODEL / "run.json")
        test, openings = open_test(artifacts.TEST, data.info.fingerprint, run["run_id"] or "a run without a record")
        assessment = assess(
            classifier.load(artifacts.MODEL).to(device),
            classifier.load(artifacts.MODEL, "weights_epoch1.safetensors").to(device),
            data,
            test,
            openings,
            run,
            pd.read_csv(artifacts.MODEL / "history.csv"),
            [Verdict(**verdict) for verdict in artifacts.read_json(artifacts.CHECKS)["verdicts"]],
            params.evaluate,
        )
        write(assessment, test, artifacts.EVALUATION, artifacts.METRICS)
        print(f"{artifacts.EVALUATION}: test accuracy {Proportion(**assessment.metrics['accuracy'])}")
        for verdict in assessment.verdicts:
            print(f"  {verdict.level}: {verdict.title}")
        # Here the assessment goes to the run that trained the model: assessment.headline, .verdicts, .drawings (drawing.to_png).


def write(assessment: Assessment, test: Split, folder: Path, headline: Path) -> None:
    """Write what docs/architecture.md lists under *evaluate*; the folder appears whole or not at all."""
    with artifacts.atomic_folder(folder) as fresh:
        artifacts.write_json(fresh / "metrics.json", assessment.metrics)
        artifacts.write_json(fresh / "verdicts.json", [asdict(verdict) for verdict in assessment.verdicts])
        np.savez(fresh / "predictions.npz", probs=assessment.probs, labels=assessment.labels)
        chosen = vars(assessment.chosen)
        images = {name: test.images[positions] for name, positions in chosen.items()}
        np.savez_compressed(fresh / "gallery.npz", **images, **{f"{name}_index": at for name, at in chosen.items()})
        for item in assessment.drawings:
            drawing.save(item, fresh / "figures")
    artifacts.write_json(headline, assessment.headline)


if __name__ == "__main__":
    main()
