"""From words on the command line to the sides of a comparison."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline import artifacts
from pipeline.config import parse, to_tree
from pipeline.data.dataset import DatasetInfo, SearchData
from pipeline.epochs import Epoch
from pipeline.report import formats
from pipeline.report.provenance import run_link
from pipeline.training.account import read_history
from study.engine.arrays import arrays
from study.experiments.comparison.sides import WEIGHTS, Images, Side, Training
from study.lineage.chain import current, history_of, studies
from study.lineage.names import trace
from study.state.errors import UsageError
from study.state.history import History, Run
from study.state.ledger import STUDIES
from study.state.records import Lineage, RunConfig, parsed
from study.stores.addresses import pages


def resolve(words: Sequence[str], root: Path, mirror: str | None, by_seed_group: bool) -> tuple[Side, ...]:
    """Return the sides that these words name, in their order.

    Parameters
    ----------
    words : each what ``study trace`` takes: of a study alone its winner's trainings on fresh seeds, or else its best trial;
        or NAME/ROW, all trainings of a row of an ablation or a reproduction
    mirror : for data that have to be prepared again
    by_seed_group : of a training all that have its configuration

    Raises
    ------
    UsageError
        Fewer than two, one of them twice, a word that names nothing, or a training without weights.
    """
    if len(words) < 2:
        raise UsageError(f"a comparison needs at least 2 runs, got {len(words)}; give another, e.g. current")
    sides = tuple(_side(word, root, mirror, by_seed_group) for word in words)
    for number, side in enumerate(sides):
        for earlier, other in zip(words, sides[:number], strict=False):
            if set(side.names) & set(other.names):
                raise UsageError(f"runs to compare must differ, but {earlier} and {words[number]} share trainings; leave one out")
    return sides


def read(images: Images, root: Path, mirror: str | None) -> SearchData | None:
    """Return the arrays; None where those that are here now are not the ones of ``images``.

    Raises DataError where they have to be prepared again, and cannot be.
    """
    if _fingerprint(images.folder) == images.fingerprint:
        return SearchData.read(images.folder)
    place = arrays(images.section, root, mirror).search
    return SearchData.read(place) if _fingerprint(place) == images.fingerprint else None


def _fingerprint(folder: Path) -> str | None:
    return DatasetInfo.read(folder).fingerprint if (folder / "dataset.json").exists() else None


def _side(word: str, root: Path, mirror: str | None, by_seed_group: bool) -> Side:
    asked = word.strip().removesuffix("/")
    match = re.fullmatch(rf"(?:{STUDIES}/)?([^/#]+)(?:/(?:runs/)?([\w.-]+))?", asked)
    if match and match[1] in studies(root):
        return _of_study(match[1], match[2], root, mirror, by_seed_group)
    place = Path(trace(asked, root).step("run").value)  # every other name that there is, or the reason why it is none
    if place == artifacts.MODEL:
        return _current(root, mirror)
    return _of_study(place.parts[1], place.parts[3], root, mirror, by_seed_group)


def _of_study(name: str, key: str | None, root: Path, mirror: str | None, by_seed_group: bool) -> Side:
    history = history_of(name, root)
    runs = list(history.runs.values())
    if key is None:
        label, what, chosen = _whole(name, history)
    elif row := [run for run in history.planned if run.origin == key]:
        label, what, chosen = f"{name}/{key}", f"row {key}", row
    elif key not in history.runs:
        raise UsageError(f"{name} has no run {key}; it has {_keys(history)}")
    elif by_seed_group:
        label, what, chosen = _group(name, history, history.runs[key])
    else:
        label, what, chosen = f"{name}/{key}", _one(history.runs[key]), [history.runs[key]]
    address = pages(root / STUDIES / name)
    kept = _with_weights(name, chosen, runs, root)
    return Side(
        label=label,
        what=what if len(chosen) == 1 else f"{what}, on {_seeds(kept)}",
        trainings=tuple(_training(name, run, history, root, address(run)) for run in kept),
        images=_images(kept[0], history, root, mirror),
        lost=tuple(run.key for run in chosen if run not in kept),
        searched=kept[0].phase == "search",
        source=history.lineage,
    )


def _images(run: Run, history: History, root: Path, mirror: str | None) -> Images:
    """Return those of the study, or a planned training's own."""
    section = run.config.data
    if section is None:
        info = history.lineage.dataset
        return Images.of(info, info.fingerprint, history.spec.params.data, Path(history.lineage.data))
    place = arrays(section, root, mirror).search
    prepared = DatasetInfo.read(place)
    return Images.of(prepared, run.fingerprint or prepared.fingerprint, section, place)


def _whole(name: str, history: History) -> tuple[str, str, list[Run]]:
    """Choose the winner's trainings on fresh seeds, or else the best trial of the search."""
    if history.winner is not None:
        trial = history.winner.trial
        return name, f"the winner, trial {trial}", [run for run in history.finals if run.trial == trial]
    best = history.best()
    if best is not None:
        return name, f"the best trial, {best.key}", [best]
    if history.spec.kind.plan:
        raise UsageError(f"{name} holds several configurations; give one of its rows: {_keys(history)}")
    raise UsageError(f"{name} has no complete trial yet; give one that was begun: {_keys(history)}")


def _group(name: str, history: History, asked: Run) -> tuple[str, str, list[Run]]:
    """Choose all trainings of one configuration; those of a finalist, on fresh seeds, take the place of the search's.

    The search has chosen a finalist by what its training came to there, so that one flatters it.
    """
    members = [run for run in history.runs.values() if run.group == asked.group]
    if asked.phase == "planned":
        return f"{name}/{asked.origin}", f"row {asked.origin}", members
    finals = [run for run in members if run.phase == "final"]
    complete = [run for run in members if run.state == "COMPLETE"]
    return f"{name}/{asked.trial}", f"trial {asked.trial}", finals or complete or [asked]


def _seeds(runs: Sequence[Run]) -> str:
    """``5 fresh seeds``; fresh are those that the search has not seen."""
    return formats.plural(len(runs), "fresh seed" if runs[0].phase == "final" else "seed")


def _one(run: Run) -> str:
    if run.phase == "search":
        return f"trial {run.trial} of the search"
    return f"seed {run.replicate} of {f'row {run.origin}' if run.phase == 'planned' else f'finalist {run.trial}'}"


def _with_weights(name: str, chosen: Sequence[Run], runs: Sequence[Run], root: Path) -> list[Run]:
    """Keep those of several that are complete; one alone may have been stopped, as long as it has weights and an epoch."""

    def usable(run: Run) -> bool:
        return bool(run.epochs) and (root / STUDIES / name / "runs" / run.key / WEIGHTS).exists()

    kept = [run for run in chosen if usable(run) and (run.state == "COMPLETE" or len(chosen) == 1)]
    if kept:
        return kept
    other = next((run.key for run in reversed(runs) if usable(run) and run.state == "COMPLETE"), None)
    named = ", ".join(f"{name}/{run.key} ({run.state.lower()})" for run in chosen[:3])
    remedy = f"give one that has, e.g. {name}/{other}" if other else f"`study status {name}` tells how far its trainings are"
    raise UsageError(f"a run to compare must have trained weights, but {named} has none; {remedy}")


def _training(name: str, run: Run, history: History, root: Path, page: str | None) -> Training:
    return Training(
        name=f"{name}/{run.key}",
        seed=run.seed,
        config=RunConfig({"data": to_tree(history.spec.params.data), **run.config.tree}),
        epochs=tuple(run.epochs),
        accuracy=run.accuracy or 0.0,
        parameters=run.parameters,
        multiply_adds=run.multiply_adds,
        folder=root / STUDIES / name / "runs" / run.key,
        device=run.segments[-1].slot.partition(" ")[0] if run.segments else "",
        state=run.state,
        page=page,
    )


def _current(root: Path, mirror: str | None) -> Side:
    summary, folder = current(root), root / artifacts.MODEL
    if not (folder / WEIGHTS).exists() or not summary["epochs_run"]:
        raise UsageError(f"a run to compare must have trained weights, but {artifacts.MODEL} has none; train with `dvc repro`")
    section, place = parse({"data": summary["params"]["data"]}).data, root / artifacts.SEARCH
    if _fingerprint(place) != summary["data_fingerprint"]:
        place = arrays(section, root, mirror).search
    history = read_history(folder)
    training = Training(
        name="current",
        seed=summary["seed"],
        config=RunConfig({name: summary["params"][name] for name in ("data", "model", "train")}),
        epochs=tuple(parsed(Epoch, {str(key): value for key, value in row.items()}) for row in history.to_dict("records")),
        accuracy=float(history.set_index("epoch").loc[summary["kept_epoch"], "validation_accuracy"]),
        parameters=summary["parameters"],
        multiply_adds=summary["multiply_adds"],
        folder=folder,
        device=summary["device"],
        state="COMPLETE" if summary["state"] == "finished" else "FAIL",
        page=run_link(summary),
    )
    images = Images.of(DatasetInfo.read(place), summary["data_fingerprint"], section, place)
    what = f"{artifacts.MODEL} ({summary['name']})"
    return Side("current", what, (training,), images, source=Lineage.of(summary))


def _keys(history: History) -> str:
    """List what a study has, as it may be named."""
    rows = list(dict.fromkeys(run.origin for run in history.planned))
    if rows:
        return ", ".join(f"{history.spec.name}/{row}" for row in rows[:12]) + (", …" if len(rows) > 12 else "")
    trials = history.trials
    if not trials:
        return "none yet"
    finals = [run.key for run in history.finals]
    return f"trials {trials[0].key} to {trials[-1].key}" + (f" and finals {finals[0]} to {finals[-1]}" if finals else "")
