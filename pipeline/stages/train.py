"""Stage train: train a network, record it in MLflow, resume it after an interruption."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import artifacts, config, tracking
from pipeline.config import SHAPES_TRAINING
from pipeline.data.dataset import SearchData
from pipeline.errors import one_line_errors
from pipeline.models.classifier import card_content, pack_weights
from pipeline.training import account
from pipeline.training.device import choose_device, memory_errors, use_cpu
from pipeline.training.display import Display
from pipeline.training.loop import Training

INTERRUPTED = 5  # trainings whose checkpoints are kept


def main() -> None:
    with one_line_errors(), memory_errors():
        params = config.load()
        artifacts.check_writable(artifacts.MODEL)  # before hours of training
        data = SearchData.read(artifacts.SEARCH)
        store = tracking.locate(params.tracking, os.environ)
        use_cpu(params.train.threads)
        training = Training(params.model, params.train, data, choose_device(params.train.device), params.evaluate.costs)
        about = account.before(params, data.info, training.device)
        checkpoint = artifacts.CHECKPOINTS / f"{about['key']}.safetensors"
        resumed = checkpoint.exists() and restore(training, checkpoint, about)
        if resumed:
            print(f"continuing after epoch {len(training.history)} of an interrupted training")
        with open_run(store, data, about, resumed) as run:
            fit(training, run, checkpoint, about["started"])
            with artifacts.atomic_folder(artifacts.MODEL) as folder:
                write(training, folder)
                run.log_artifacts(folder, "files")
                run.log_model(folder, data.validation.images[:4], training.kept_epoch)
                run.describe(account.headline(training))
                recorded = run.finish("FAILED" if training.diverged else "FINISHED")
                artifacts.write_json(folder / "run.json", {**about, **account.after(training), **account.record(recorded)})
        checkpoint.unlink(missing_ok=True)
        artifacts.keep_newest(artifacts.CHECKPOINTS, INTERRUPTED)
        print(account.headline(training))


def restore(training: Training, checkpoint: Path, about: account.Account) -> bool:
    """Continue from a checkpoint and return True; remove a damaged one and return False."""
    try:
        about["started"] = training.restore(checkpoint)
    except artifacts.DamagedError as error:
        checkpoint.unlink()
        print(f"{checkpoint} is damaged ({error}); training starts over")
        return False
    return True


def open_run(store: tracking.Store, data: SearchData, about: account.Account, resumed: bool) -> tracking.Run:
    """Return the MLflow run of this training, new or resumed."""
    return tracking.start(
        store,
        key=about["key"],
        name=about["name"],
        params={section: about["params"][section] for section in SHAPES_TRAINING},
        tags=account.tags(about, os.environ),
        inputs=account.datasets(data.info, {"train": artifacts.SEARCH, "validation": artifacts.SEARCH}),
        resumed=resumed,
    )


def fit(training: Training, run: tracking.Run, checkpoint: Path, started: str) -> None:
    """Train to the end; checkpoint and record each epoch before the next begins."""
    for done in training.history:
        run.log_epoch(done.epoch, account.metrics(done))
    with Display(training.config.epochs, training.history) as display:
        while not training.ended:
            epoch = training.run_epoch(display.progress)
            if epoch is None:
                break
            training.save(checkpoint, note=started)
            run.log_epoch(epoch.epoch, account.metrics(epoch))
            display.epoch(epoch, best=epoch.epoch == training.best_epoch)


def write(training: Training, folder: Path) -> None:
    """Write the model, its weights after epoch 1, and the history."""
    classifier = training.finish()
    classifier.save(folder)
    first = pack_weights(training.first, card_content(classifier.card))
    artifacts.write_bytes(folder / "weights_epoch1.safetensors", first)
    account.write_history(training.history, folder)


if __name__ == "__main__":
    main()
