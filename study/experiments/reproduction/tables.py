"""Headline and tables of the page on reproductions, as plain rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.document import Key
from pipeline.report.provenance import Origin
from study.experiments.reproduction import broken_column, words
from study.experiments.reproduction.failure import Demonstration
from study.experiments.reproduction.judge import Judged, RecipeResult, RowResult
from study.experiments.reproduction.measure import WORDS
from study.experiments.reproduction.words import joined, shown
from study.report.cost import cost
from study.state.history import Run

Row = dict[str, Any]
Pages = Callable[[str, Run], str | None]
MEANINGS = {
    "reproduced": "chance explains what differs",
    "better": "ours is, by more than chance",
    "worse": "ours is, by more than chance",
    "not comparable": "the reason stands at each",
}


def headline(results: Sequence[RecipeResult], now: int) -> Row:
    """All that the template of the headline needs; ``now`` in milliseconds since 1970."""
    counts = {word: sum(result.count(word) for result in results) for word in WORDS}
    judged = sum(counts.values())
    moment = datetime.fromtimestamp(now / 1000, UTC)
    keys = [Key(word.capitalize(), counts[word], f"{counts[word]}", MEANINGS[word]) for word in WORDS]
    return {
        "page_title": f"Reproduction: {counts['reproduced']} of {judged} rows – studyline",
        "date": moment.strftime("%-d %b %Y, %H:%M UTC"),
        "datetime": moment.isoformat(),
        "reproduced": counts["reproduced"],
        "better": counts["better"],
        "judged": judged,
        "nothing": None if judged > counts["not comparable"] else _nothing(results),
        "lede": lede(results),
        "figures": [*keys, *_spent(results)],
    }


def lede(results: Sequence[RecipeResult]) -> str:
    """What was trained, and how far it can be compared, in a few sentences."""
    rows = [found for result in results for found in result.rows]
    later = sum(found.row.later is not None for found in rows)
    trained = [found for found in rows if found.complete]
    seeds = sorted({len(found.complete) for found in trained})
    cuts = sorted({found.cut.partition(" instead of ")[0] for found in rows if found.cut})
    often = "no seed yet" if not seeds else f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else _plural(seeds[0], "seed")
    text = (
        f"{_plural(len(results), 'source')}, {_plural(len(rows), 'row')}: {len(trained)} trained here on {often} each, "
        f"{later} left for later."
    )
    if len(trained) + later < len(rows):
        text += f" {len(rows) - len(trained) - later} are not trained to the end yet."
    if cuts:
        return f"{text} A quick look, which compares nothing: {'; '.join(cuts)}."
    if seeds and seeds[0] == 1:
        text += " With one seed a verdict knows only the chance of the images, not that of the seed."
    return text


def _nothing(results: Sequence[RecipeResult]) -> str:
    """Why no row is compared."""
    if any(found.cut for result in results for found in result.rows):
        return "A quick look: published tables are trained, none is compared"
    return "No row of a published table can be compared yet"


def _spent(results: Sequence[RecipeResult]) -> list[Key]:
    runs = [run for result in results for found in result.rows for run in found.runs]
    failed = sum(run.state == "FAIL" for run in runs)
    seconds = sum(run.seconds for run in runs)
    wall = sum(cost(result.history).seconds for result in results if result.history)
    exact = [found.exact for result in results for found in result.rows if found.exact is not None]
    return [
        Key("Parameter counts exact", sum(exact), f"{sum(exact)} of {len(exact)}", "of those printed and trained here"),
        Key("Trainings", len(runs), f"{len(runs)}", f"{failed} failed" if failed else "none failed"),
        Key("Device time", seconds, formats.duration(seconds), "of all trainings"),
        Key("Wall time", wall, formats.duration(wall), "of all sessions"),
    ]


def source(result: RecipeResult, pages: Pages, own: Mapping[str, Path]) -> Row:
    """A source with its rows, each with its figures; reasons that several share are notes below the table.

    own : places of the pages of rows that there are, relative to the report
    """
    notes: list[str] = []
    rows = [_row(result, found, notes, pages, own) for found in result.rows]
    told = [f"{result.count(word)} {word}" for word in WORDS if result.count(word)]
    return {
        "source": result.recipe.source,
        "title": result.recipe.title,
        "summary": ", ".join(told) or "nothing is trained to the end yet",
        "counts": {word: result.count(word) for word in WORDS},
        "later": sum(found.row.later is not None for found in result.rows),
        "seeds": max((len(found.complete) for found in result.rows), default=0),
        "several": any(figure.ours and figure.ours.prediction for found in result.rows for figure in found.figures),
        "assumed": result.recipe.assumed,
        "assumed_rows": [(found.row.title, found.row.assumed) for found in result.rows if found.row.assumed],
        "rows": rows,
        "confusions": [found.row.name for found in result.rows if found.row.confusion],
        "notes": notes,
    }


def _row(result: RecipeResult, found: RowResult, notes: list[str], pages: Pages, own: Mapping[str, Path]) -> Row:
    place = f"{result.recipe.source}/{found.row.name}/index.html"
    figures = [_figure(found, figure, notes) for figure in found.figures]
    alone = found.basis if not figures or found.verdict is None else ""
    seeds = [{"index": run.replicate, "state": run.state, "page": pages(result.recipe.source, run)} for run in found.runs]
    return {
        "name": found.row.name,
        "title": found.row.title,
        "page": place if place in own else None,
        "verdict": found.verdict,
        "later": found.row.later,
        "cut": found.cut,
        "basis": formats.sentence(alone) if alone else "",
        "parameters": parameters(found),
        "exact": found.exact,
        "seeds": seeds,
        "figures": figures,
    }


def parameters(found: RowResult) -> str:
    """Ours against printed, in a few words."""
    mine, printed = found.parameters, found.row.parameters
    if mine is None:
        return f"{printed:,} parameters printed" if printed is not None else ""
    told = "" if printed is None else ", as printed" if found.exact else f", printed {printed:,}"
    return f"{mine:,} parameters{told}"


def _figure(found: RowResult, figure: Judged, notes: list[str]) -> Row:
    """note : number of the note that says why it cannot be compared; what the row says of itself needs none."""
    mine, note = figure.ours, None
    said = found.verdict is None or figure.basis == found.cut
    if figure.verdict == "not comparable" and not said:
        if figure.basis not in notes:
            notes.append(figure.basis)
        note = notes.index(figure.basis) + 1
    return {
        "name": words.name(figure.name),
        "reported": figure.reported.text if figure.reported else formats.NOTHING,
        "value": mine.value if mine else None,
        "ours": shown(figure.name, figure.reported, mine.value if mine else None),
        "interval": _range(figure, mine.low, mine.high) if mine else formats.NOTHING,
        "single": _range(figure, *(mine.prediction or (None, None))) if mine else formats.NOTHING,
        "n": mine.n if mine else 0,
        "verdict": figure.verdict if found.verdict else formats.NOTHING,
        "basis": figure.basis,
        "note": note,
    }


def _range(figure: Judged, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return formats.NOTHING
    return joined(figure.name, figure.reported, low, high)


def printed_failure(results: Sequence[RecipeResult]) -> str:
    """What the sources themselves print that is recreated: the medians of rows with a broken test figure."""
    for result in results:
        bad = [item for item in broken_column.both(result) if item.gap is not None and item.gap.level == "bad"]
        if bad:
            test, validation = (
                formats.percent(median(getattr(item, part).value for item in bad), 1) for part in ("test", "validation")
            )
            return (
                f"Source {result.recipe.source} prints {validation} on validation and {test} on test (medians of {len(bad)} "
                "rows) and does not notice."
            )
    return ""


def exchanged(demonstration: Demonstration | None) -> str:
    """The broken labels and what each is read as: ``0 as 4, 4 as 7, 7 as 0``."""
    if demonstration is None:
        return ""
    labels = [demonstration.classes[label] for label in demonstration.broken_labels]
    return ", ".join(f"{right} as {wrong}" for right, wrong in zip(labels, (*labels[1:], labels[0]), strict=True))


def costs(results: Sequence[RecipeResult]) -> list[Row]:
    """What each source cost; wall time is that of its sessions, device time that of its epochs."""
    rows = []
    for result in results:
        runs = [run for found in result.rows for run in found.runs]
        told = cost(result.history) if result.history else None
        rows.append(
            {
                "source": result.recipe.source,
                "trainings": len(runs),
                "failed": sum(run.state == "FAIL" for run in runs),
                "epochs": sum(len(run.epochs) for run in runs),
                "device": sum(run.seconds for run in runs),
                "wall": told.seconds if told else 0.0,
                "slots": len(told.slots) if told else 0,
            }
        )
    return rows


def lineage(results: Sequence[RecipeResult], about: Mapping[str, Any], now: int) -> list[Origin]:
    """What the report, and the trainings of each source, were made from."""
    moment = datetime.fromtimestamp(now / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC")
    rows = [
        Origin("Date", moment),
        Origin("Git commit", about.get("git_commit") or "not in a git repository", code=True, note=_dirty(about)),
        Origin("Hardware", about.get("hardware") or formats.NOTHING),
        Origin("Environment", ", ".join(f"{name} {version}" for name, version in about.get("environment", {}).items())),
    ]
    if about.get("command"):
        rows.append(Origin("Command", about["command"], code=True))
    rows += [*trained_at(results), *_trained_on(results)]
    return [*rows, *(_data(result) for result in results if result.history is not None)]


def trained_at(results: Sequence[RecipeResult]) -> list[Origin]:
    """The commits of the trainings themselves, each with its sources."""
    sources: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.history is not None:
            told = result.history.lineage
            key = (told.git_commit or "not in a git repository", told.dirty)
            sources.setdefault(key, []).append(result.recipe.source)
    return [
        Origin("Trained at", commit, code=True, note=", ".join([*names, *([dirty] if dirty else [])]))
        for (commit, dirty), names in sources.items()
    ]


def _trained_on(results: Sequence[RecipeResult]) -> list[Origin]:
    """The machines of the trainings."""
    sessions = [event for result in results if result.history for event in result.history.sessions]
    hosts = sorted({event["host"] for event in sessions if event["kind"] == "opened" and event.get("host")})
    return [Origin("Trained on", ", ".join(hosts))] if hosts else []


def _data(result: RecipeResult) -> Origin:
    assert result.history is not None
    data = result.history.lineage.dataset
    prints = dict.fromkeys([run.fingerprint for run in result.history.planned if run.fingerprint] or [data.fingerprint])
    images = ", ".join(f"{count:,} {split}" for split, count in data.images.items())
    text = f"{data.name}: {images} images"
    return Origin(f"Data of {result.recipe.source}", text, note=f"split seed {data.split_seed}, fingerprint {', '.join(prints)}")


def _dirty(told: Mapping[str, Any]) -> str:
    return "with changes that were not committed" if told.get("git_dirty") else ""


def commands(results: Sequence[RecipeResult]) -> str:
    """What trains all this again."""
    told = [result.history.lineage for result in results if result.history is not None]
    lines = [f"git checkout {lineage.git_commit}" for lineage in told if lineage.git_commit]
    lines += [without_password(lineage.command) for lineage in told if lineage.command]
    return "\n".join(dict.fromkeys(lines)) or "study reproduce --all"


def _plural(number: int, noun: str) -> str:
    return formats.plural(number, noun) or f"no {noun}"
