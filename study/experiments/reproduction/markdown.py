"""The tables of reproductions as Markdown, to be kept with the code: ``reports/reproduction.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import formats
from pipeline.verdict import LEVELS, Verdict
from study.experiments.reproduction import tables
from study.experiments.reproduction.judge import RecipeResult
from study.experiments.reproduction.measure import WORDS
from study.experiments.reproduction.page import lede, nowhere
from study.experiments.reproduction.sources import findings


def to_markdown(results: Sequence[RecipeResult], about: Mapping[str, Any], now: int, more: Sequence[Verdict] = ()) -> str:
    """Write all rows with their verdicts, what is wrong in the sources, and where the numbers come from.

    about, now : as of :func:`study.experiments.reproduction.page.build`
    more : verdicts beside those on the sources, as :func:`study.experiments.reproduction.failure.verdict`
    """
    counts = ", ".join(f"{sum(result.count(word) for result in results)} {word}" for word in WORDS)
    dirty = ", with changes that were not committed" if about.get("git_dirty") else ""
    versions = ", ".join(f"{name} {version}" for name, version in about.get("environment", {}).items())
    commits = "; ".join(f"`{commit}` ({names})" for commit, names in tables.trained_at(results)) or "none"
    date = formats.date(formats.moment(now)).partition(",")[0]
    verdicts = (*findings(results), *more)
    parts = [
        "# Published systems, trained here",
        f"{counts}. {lede(results)}",
        f"Trained at commit {commits}. This table: commit `{about.get('git_commit') or 'none'}`{dirty}; {date}; "
        f"{about.get('hardware') or 'hardware unknown'}; {versions}.",
        "Reproduced: the reported figure, ± half a unit of its last digit, overlaps the interval of a single training of ours "
        "(95 %); with one seed, the chance of the images alone. Intervals of ours are t over n seeds; with n = 1 Wilson's over "
        "the images.",
        "## What to know first",
        "\n".join(f"- **{LEVELS[verdict.level][1]}: {verdict.title}.** {verdict.evidence}" for verdict in verdicts),
        *(part for result in results for part in _source(result)),
        "## Cost",
        tables.costs(results).markdown().strip(),
    ]
    return "\n\n".join(parts).replace(formats.NARROW, " ").replace(formats.SPACE, " ") + "\n"


def _source(result: RecipeResult) -> list[str]:
    assumed = [f"- {text}" for text in result.recipe.assumed]
    assumed += [f"- {row.row.title}: {' '.join(row.row.assumed)}" for row in result.rows if row.row.assumed]
    return [
        f"## {result.recipe.source}: {result.recipe.title}",
        formats.sentence(result.summary),
        tables.figures(result, nowhere, {}).markdown().strip(),
        "Assumed where the source is silent:",
        "\n".join(assumed),
    ]
