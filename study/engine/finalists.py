"""The confirmation after a search: the best configurations trained again on fresh seeds, judged, and read once on test.

The best of many trials looks better than it is. So the winner is chosen by trainings that the search has not seen, on the same
seeds for every finalist; where chance explains what lies between them, the smallest network is taken.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Study
from pipeline.data.dataset import Split
from study.state.best import non_dominated
from study.state.history import ENDED, History, Run
from study.state.objective import OBJECTIVES, costs
from study.state.records import Finalist, Share, Winner, WinnerTest, content_of

SEEDS = 2**32 - 1  # marks the confirmation's seeds: SeedSequence([study.seed, trial]) gives those of the search


def seeds(section: Study) -> list[int]:
    """The seeds of the confirmation, the same for every finalist."""
    words = (np.random.SeedSequence([section.seed, SEEDS, index]) for index in range(section.finalists.seeds))
    return [int(sequence.generate_state(1, np.uint64)[0] >> 1) for sequence in words]


def choose(history: History) -> list[Run]:
    """The configurations to confirm, best first, each by its first complete trial; empty where none is complete.

    A configuration that was tried on several seeds counts with the mean of its complete trials; of equal ones the smaller network
    comes first. Those that asha left at the highest rungs follow. With several objectives it is the Pareto front, best in
    the one that decides first. At most ``finalists.top``.
    """
    objectives = history.spec.objectives
    index = objectives.index(history.spec.quality)
    groups = list(_groups(history).values())
    points = [costs(_means(group), objectives) for group in groups]
    kept = non_dominated(points) if len(objectives) > 1 else [True] * len(groups)
    ranked = sorted(
        (point[index], group[0].parameters, group[0].trial, group[0])
        for point, group, keep in zip(points, groups, kept, strict=True)
        if keep
    )
    chosen = [run for *_, run in ranked]
    if len(objectives) == 1:
        chosen += _nearest_to_completion(history, {run.group for run in chosen})
    return chosen[: history.spec.study.finalists.top]


def _nearest_to_completion(history: History, groups: set[str]) -> list[Run]:
    """Trials that successive halving paused and never promoted, of other configurations, the highest rung and its best first.

    It trains few to the end, three of thirty, say; who was next in line deserves the comparison too.
    """
    objective = history.spec.quality
    waiting = [run for run in history.trials if run.cause == "asha" and run.epochs and run.group not in groups]
    waiting.sort(key=lambda run: (-len(run.epochs), objective.cost(objective.value(run)), run.parameters, run.trial))
    return list({run.group: run for run in reversed(waiting)}.values())[::-1]


def keys(history: History) -> set[str]:
    """Of all trainings that the confirmation consists of, done or not."""
    return {_key(run, index) for run in choose(history) for index in range(_count(history))}


def tasks(history: History) -> list[dict[str, Any]]:
    """The trainings that the confirmation still lacks: the content of their ``asked`` events, seed by seed."""
    return [
        _task(run, index, seed)
        for index, seed in enumerate(seeds(history.spec.study))
        for run in choose(history)
        if _key(run, index) not in history.runs
    ]


def judge(history: History) -> Winner | None:
    """Who wins; None while a training is missing, or where none can win.

    The leader has the best mean; those whose paired difference to it has a Holm-corrected p of at least 0.05 tie with it; the
    winner is the smallest network among these, then the earlier trial. A finalist of which more trainings failed than of another
    cannot win, nor can one with fewer than two.
    """
    from study.engine import confirmation  # scipy takes a second that no search shall wait for

    trained = _trained(history)
    judged = _judged(trained, history) if trained else []
    ties = [item for item in judged if item.ties]
    if not ties:
        return None
    objective = history.spec.quality
    winner = min(ties, key=lambda item: (item.parameters, objective.cost(item.mean), item.trial))
    optimism = [item.optimism for item in judged if item.optimism is not None]
    return Winner(
        trial=winner.trial,
        group=winner.group,
        run=next(final.key for run, finals in trained for final in finals if run.trial == winner.trial and final.values),
        leader=judged[0].trial,
        ties=[item.trial for item in ties],
        objective=objective.name,
        finalists=judged,
        mean_optimism=float(np.mean(optimism)) if optimism else None,
        summary=confirmation.summary(winner, ties, judged, objective),
    )


def _trained(history: History) -> list[tuple[Run, list[Run]]]:
    """The finalists with their trainings by index of the seed; empty while one of these has not ended."""
    found = []
    for run in choose(history):
        finals = [history.runs.get(_key(run, index)) for index in range(_count(history))]
        ended = [final for final in finals if final and final.state in ENDED]
        if len(ended) < len(finals):
            return []
        found.append((run, ended))
    return found


def _judged(trained: Sequence[tuple[Run, list[Run]]], history: History) -> list[Finalist]:
    """Those that may win, the leader first, each compared with it; then the others. Empty where none may win."""
    from study.engine import confirmation

    objective = history.spec.quality
    found = [_finalist(run, finals, history) for run, finals in trained]
    fewest = min(item.failures for item in found)
    able = [item for item in found if not item.excluded(fewest)]
    if not able:
        return []
    able.sort(key=lambda item: (objective.cost(item.mean), item.parameters, item.trial))
    resolution = objective.resolution(history.lineage.dataset.images["validation"])
    others = [confirmation.against(item, able[0], resolution) for item in found if item not in able]
    return [*confirmation.compare(able, resolution), *others]


def test_read(history: History, folder: Path, test: Split, openings: int) -> WinnerTest:
    """What the winner's trainings score on the test images, all in this one opening.

    folder : of the study; openings : of the test set, this one included
    """
    from pipeline.evaluation.statistics import Proportion  # scipy, as above
    from study.engine.confirmation import shown, spread

    assert history.winner is not None
    trial = history.winner.trial
    finals = (history.runs.get(f"{trial}.s{index}") for index in range(_count(history)))
    runs = [run for run in finals if run and run.state == "COMPLETE"]
    right = [_right(folder / "runs" / run.key, test) for run in runs]
    accuracies = [count / len(test) for count in right]
    over_seeds = spread(accuracies, 1 / len(test))
    often = "once" if openings == 1 else f"{openings} times"
    return WinnerTest(
        trial=trial,
        group=history.winner.group,
        runs=[run.key for run in runs],
        accuracies=accuracies,
        first=Share(**asdict(Proportion.of(right[0], len(test)))),
        images=len(test),
        openings=openings,
        summary=f"test accuracy {shown(over_seeds, OBJECTIVES['accuracy'])} on {len(test):,} images, opened {often}",
        **content_of(over_seeds),
    )


def _key(run: Run, index: int) -> str:
    return f"{run.trial}.s{index}"


def _count(history: History) -> int:
    return history.spec.study.finalists.seeds


def _groups(history: History) -> dict[str, list[Run]]:
    """The complete trials by configuration, each in the order of their numbers."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(history.trials, key=lambda run: run.trial):
        if run.state == "COMPLETE" and run.values:
            groups.setdefault(run.group, []).append(run)
    return groups


def _means(group: Sequence[Run]) -> list[float]:
    return [float(value) for value in np.mean([run.values for run in group if run.values], axis=0)]


def _task(run: Run, index: int, seed: int) -> dict[str, Any]:
    config = copy.deepcopy(run.config.tree)
    config["train"]["seed"] = seed
    return {
        "run": _key(run, index),
        "phase": "final",
        "trial": run.trial,
        "params": run.params,
        "distributions": run.distributions,
        "config": config,
        "group": run.group,
        "replicate": index,
        "seed": seed,
        "parameters": run.parameters,
        "multiply_adds": run.multiply_adds,
        "origin": "finalist",
    }


def _finalist(run: Run, finals: Sequence[Run], history: History) -> Finalist:
    from study.engine.confirmation import spread

    objective = history.spec.quality
    index = history.spec.objectives.index(objective)
    values = [float(final.values[index]) if final.state == "COMPLETE" and final.values else None for final in finals]
    present = [value for value in values if value is not None]
    over_seeds = spread(present, objective.resolution(history.lineage.dataset.images["validation"]))
    complete = _groups(history).get(run.group)
    # Of one that the search did not train to the end, the value as it stood, which promises nothing of the whole training.
    search_value = _means(complete)[index] if complete else objective.value(run)
    assert search_value is not None, "a finalist was trained"
    optimism = objective.sign * (search_value - over_seeds.mean) if complete and over_seeds.mean is not None else None
    failures = len(values) - len(present)
    return Finalist(
        trial=run.trial,
        group=run.group,
        parameters=run.parameters,
        seeds=[final.seed for final in finals],
        values=values,
        failures=failures,
        search_value=search_value,
        optimism=optimism,
        **content_of(over_seeds),
    )


def _right(folder: Path, test: Split) -> int:
    """How many test images a kept network classifies rightly."""
    from pipeline.evaluation.inspection import outputs  # scikit-learn, likewise
    from pipeline.models import classifier

    _, probs = outputs(classifier.load(folder), test.images)
    return int((probs.argmax(axis=1) == np.asarray(test.labels)).sum())
