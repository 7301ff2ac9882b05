"""Stage evaluate: judge the trained model on the test images; write numbers, verdicts, galleries and figures."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline import artifacts, config, tracking
from pipeline.data.dataset import SearchData, open_test
from pipeline.errors import one_line_errors
from pipeline.evaluation import drawing
from pipeline.evaluation.assess import Assessment, assess, write
from pipeline.evaluation.statistics import Proportion
from pipeline.models import classifier
from pipeline.training import account
from pipeline.training.device import choose_device
from pipeline.verdict import Verdict


def main() -> None:
    with one_line_errors():
        params = config.load()
        torch.set_num_threads(params.train.threads)
        device = choose_device(params.train.device)
        data = SearchData.read(artifacts.SEARCH)
        run = artifacts.read_json(artifacts.verified(artifacts.MODEL) / "run.json")
        store = tracking.locate(params.tracking, os.environ)
        # The run is opened first: an unreachable store ends the stage before the test set is opened.
        splits = {"train": artifacts.SEARCH, "validation": artifacts.SEARCH, "test": artifacts.TEST}
        inputs, example = account.datasets(data.info, splits), data.validation.images[:4]
        with tracking.adopt(store, artifacts.MODEL, example=example, inputs=inputs) as tracked:
            log = store.root / artifacts.TEST_OPENINGS  # the project's, even when `dvc exp run --temp` runs elsewhere
            test, openings = open_test(artifacts.TEST, log, data.info.fingerprint, run["run_id"] or "a run without a record")
            assessment = assess(
                classifier.load(artifacts.MODEL).to(device),
                classifier.load(artifacts.MODEL, "weights_epoch1.safetensors").to(device),
                data,
                test,
                openings,
                run,
                account.read_history(artifacts.MODEL),
                [Verdict(**verdict) for verdict in artifacts.read_sealed(artifacts.CHECKS)["verdicts"]],
                params.evaluate,
            )
            with artifacts.atomic_folder(artifacts.EVALUATION) as folder:
                write(assessment, test, folder)
                record(tracked, assessment, folder)
                artifacts.write_json(folder / "tracked.json", asdict(tracked.finish()))
        artifacts.write_json(artifacts.METRICS, assessment.headline)
        print(f"{artifacts.EVALUATION}: test accuracy {Proportion(**assessment.metrics['accuracy'])}")
        for verdict in assessment.verdicts:
            print(f"  {verdict.level}: {verdict.title}")


def record(run: tracking.Run, assessment: Assessment, folder: Path) -> None:
    """Add the assessment to the MLflow run that trained the model: metrics, figures, files and description."""
    run.log_metrics({f"test/{name.removeprefix('test_')}": value for name, value in numbers(assessment).items()})
    for name in ("metrics.json", "verdicts.json"):
        run.log_artifacts(folder / name, "evaluation")
    with tempfile.TemporaryDirectory() as pictures:
        for item in assessment.drawings:
            Path(pictures, f"{item.name}.png").write_bytes(drawing.to_png(item.figure))
        run.log_artifacts(Path(pictures), "figures")
    run.describe(account.note(assessment.metrics, assessment.verdicts))


def numbers(assessment: Assessment) -> dict[str, float]:
    """Return the headline numbers of the test images that have a value."""
    other = ("validation_accuracy", "parameters", "multiply_adds", "test_images")
    return {name: float(value) for name, value in assessment.headline.items() if value is not None and name not in other}


if __name__ == "__main__":
    main()
