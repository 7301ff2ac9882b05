"""What a reproduction's trainings score on the test images: read once for all trainings that have no score yet."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from pipeline import artifacts
from pipeline.config import Evaluate
from pipeline.data.dataset import SearchData, Split, open_test
from pipeline.evaluation import inspection, metrics
from pipeline.models import classifier
from pipeline.models.build import build
from pipeline.report import formats
from study.engine.carry_out import Places, data_of
from study.experiments.reproduction.failure import demonstrate
from study.experiments.reproduction.pages import Facts, write_page
from study.experiments.reproduction.recipe import load
from study.lineage.chain import ids
from study.state.errors import StudyError
from study.state.history import History, Run
from study.state.journal import Journal
from study.state.records import RunTest, content_of

FAILURE = "failure.json"  # in the folder of a plan: source 004's failure, recreated on purpose


def score(folder: Path, run: Run, test: Split) -> RunTest:
    """Score a kept network, and the same training after its first epoch and before it."""
    network = classifier.load(folder)
    _, probs = inspection.outputs(network, test.images)
    scores = metrics.score(probs, test.labels, network.classes)
    fresh = build(network.card.model, network.shape, len(network.classes), run.seed)
    network.network.load_state_dict(fresh.state_dict())
    return RunTest(
        accuracy=scores.accuracy.value,
        successes=scores.accuracy.successes,
        n=scores.accuracy.n,
        log_loss=scores.log_loss,
        f1_weighted=scores.weighted["f1"],
        recall_weighted=scores.weighted["recall"],
        f1_macro=scores.macro["f1"],
        confusion=scores.confusion.tolist(),
        first_accuracy=_accuracy(classifier.load(folder, "weights_epoch1.safetensors"), test),
        initial_accuracy=_accuracy(network, test),
    )


def _accuracy(network: classifier.Classifier, test: Split) -> float:
    _, probs = inspection.outputs(network, test.images)
    return float((probs.argmax(axis=1) == np.asarray(test.labels)).mean())


def unscored(history: History) -> list[Run]:
    """Return trainings whose weights have not been scored; those that failed have none that are worth it."""
    return [run for run in history.planned if run.state == "COMPLETE" and run.test is None]


def score_all(journal: Journal, places: Places, root: Path, settings: Evaluate) -> bool:
    """Open each test set that a training without a score needs, once; write the scores down, and a page for each row.

    As many processes as the plan had workers do it. Stopped or killed in the middle, the next call opens the test set again
    for those that are left.

    Returns
    -------
    Whether all are scored; False where a stop was asked for.

    Raises
    ------
    StudyError
        A scoring process was killed.
    """
    history, folder = journal.history, journal.folder
    failure = load(history.spec.name.split("-")[1]).failure
    waiting = unscored(history)
    if not waiting:
        return True
    count = min(len(history.sessions[-1]["workers"]), len(waiting))
    journal.say(f"scoring {formats.plural(len(waiting), 'network')} on the test images, and drawing a page for each row")
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_alone_on_its_core)  # torch and threads do not fork
    try:
        scores = {}
        for section in dict.fromkeys(data_of(run) for run in waiting):
            runs = [run for run in waiting if data_of(run) == section]
            log, reader = root / artifacts.TEST_OPENINGS, f"study {history.spec.name}"
            test, openings = open_test(places.of[section].test, log, runs[0].fingerprint, reader)
            for run in runs:
                facts = Facts(run, history.lineage, places.of[section], openings, _in_mlflow(folder, run))
                lost = failure.classes if failure and run.key == f"{failure.row}.s0" else ()
                scores[pool.submit(_judge, folder, facts, test, settings, lost)] = run.key
        for ended in as_completed(scores):
            journal.record("scored", run=scores[ended], test=content_of(ended.result()))
            if journal.stop_asked():
                break
    except BrokenProcessPool:
        raise StudyError("a process that scores networks was killed; out of memory, perhaps. The same command goes on") from None
    finally:
        pool.shutdown(cancel_futures=True)
    return not unscored(history)


def _alone_on_its_core() -> None:
    """One thread, of networks this small more wait for each other; Ctrl-C is the coordinator's to take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threadpool_limits(1)  # of BLAS and OpenMP, for the t-SNE


def _judge(folder: Path, facts: Facts, test: Split, settings: Evaluate, lost: Sequence[int]) -> RunTest:
    """Write what is made of one training after its end; return its scores.

    folder : of the plan
    lost : classes that the source lost on test, to be lost on this network on purpose; none for most
    """
    run = facts.run
    own = folder / "runs" / run.key
    if run.replicate == 0:  # one page for each row
        write_page(facts, own, test, settings)
    if lost and not (folder / FAILURE).exists():
        data = SearchData.read(facts.place.search)
        artifacts.write_sealed(folder / FAILURE, demonstrate(classifier.load(own), data, test, run, lost).to_tree())
    return score(own, run, test)


def _in_mlflow(folder: Path, run: Run) -> dict[str, Any]:
    """Return where MLflow has the run, as far as the recorder has said so by now."""
    address = ids(folder)
    run_id = address["runs"].get(run.key)
    return {
        "run_id": run_id,
        "experiment_id": address["experiment_id"] if run_id else None,
        "tracking_uri": address["tracking_uri"] or None,
    }
