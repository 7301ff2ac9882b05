"""The table of reproductions as Markdown, to be kept with the code: ``reports/reproduction.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.report import formats
from pipeline.verdict import Verdict
from study.experiments.reproduction import tables
from study.experiments.reproduction.judge import RecipeResult
from study.experiments.reproduction.measure import WORDS
from study.experiments.reproduction.sources import findings

HEAD = ("Row", "Figure", "Reported", "Ours", "95 % interval", "A single training", "n", "Verdict")
LEVELS = {"bad": "Problem", "warn": "Warning", "good": "Good", "info": "Note"}


def to_markdown(results: Sequence[RecipeResult], about: Mapping[str, Any], now: int, more: Sequence[Verdict] = ()) -> str:
    """All rows with their verdicts, what is wrong in the sources, and where the numbers come from.

    Parameters
    ----------
    about : as of :func:`study.experiments.reproduction.page.build`
    now : milliseconds since 1970, printed as the date
    more : verdicts beside those on the sources, as :func:`study.experiments.reproduction.failure.verdict`
    """
    parts = ["# Published systems, trained here", "", *_facts(results, about, now), "", "## What to know first", ""]
    parts += [f"- **{LEVELS[verdict.level]}: {verdict.title}.** {verdict.evidence}" for verdict in (*findings(results), *more)]
    for result in results:
        parts += ["", *_source(result)]
    parts += ["", "## Cost", "", *_costs(results)]
    return "\n".join(parts).replace(formats.NARROW, " ").replace(formats.SPACE, " ") + "\n"


def _facts(results: Sequence[RecipeResult], about: Mapping[str, Any], now: int) -> list[str]:
    counts = {word: sum(result.count(word) for result in results) for word in WORDS}
    dirty = ", with changes that were not committed" if about.get("git_dirty") else ""
    versions = ", ".join(f"{name} {version}" for name, version in about.get("environment", {}).items())
    date = datetime.fromtimestamp(now / 1000, UTC).strftime("%-d %b %Y")
    hardware = about.get("hardware") or "hardware unknown"
    return [
        f"{', '.join(f'{count} {word}' for word, count in counts.items())}. {tables.lede(results)}",
        "",
        f"Trained at commit {'; '.join(f'`{origin.text}` ({origin.note})' for origin in tables.trained_at(results)) or 'none'}. "
        f"This table: commit `{about.get('git_commit') or 'none'}`{dirty}; {date}; {hardware}; {versions}.",
        "",
        "Reproduced: the reported figure, ± half a unit of its last digit, overlaps the interval of a single training of ours "
        "(95 %); with one seed, the chance of the images alone. Intervals of ours are t over n seeds; with n = 1 Wilson's over "
        "the images.",
    ]


def _source(result: RecipeResult) -> list[str]:
    told = tables.source(result, lambda source, run: None, {})
    lines = [f"## {told['source']}: {told['title']}", "", formats.sentence(told["summary"]), "", *_head(HEAD)]
    for row in told["rows"]:
        lines += _row(row)
    if told["notes"]:
        lines += ["", *(f"{number}. {formats.sentence(note)}" for number, note in enumerate(told["notes"], 1))]
    lines += ["", "Assumed where the source is silent:", "", *(f"- {text}" for text in told["assumed"])]
    return lines + [f"- {title}: {' '.join(texts)}" for title, texts in told["assumed_rows"]]


def _row(row: Mapping[str, Any]) -> list[str]:
    """A line for each figure; the first names the row, with its verdict, its parameters and what was cut short."""
    state = "later" if row["later"] else row["verdict"] or "not trained"
    about = "; ".join(part for part in (row["parameters"], row["cut"] or "", row["basis"]) if part)
    name = f"**{row['title']}**: {state}" + (f" ({about})" if about else "")
    lines = []
    for index, figure in enumerate(row["figures"] or [None]):
        cells = [name if index == 0 else ""]
        if figure is None:
            cells += [formats.NOTHING] * 7
        else:
            verdict = figure["verdict"] + (f" [{figure['note']}]" if figure["note"] else "")
            cells += [*(figure[key] for key in ("name", "reported", "ours", "interval", "single")), str(figure["n"]), verdict]
        lines.append(_line(cells))
    return lines


def _costs(results: Sequence[RecipeResult]) -> list[str]:
    lines = _head(("Source", "Trainings", "Failed", "Epochs", "Device time", "Wall time", "Slots"))
    for row in tables.costs(results):
        spent = [formats.duration(row["device"]), formats.duration(row["wall"])]
        lines.append(_line([row["source"], row["trainings"], row["failed"], row["epochs"], *spent, row["slots"]]))
    return lines


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), _line(["---"] * len(names))]


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
