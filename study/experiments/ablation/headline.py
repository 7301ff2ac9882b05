"""The top of the page: what became of the hypotheses, around what, and what it took."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pipeline.report import formats
from pipeline.report.headline import Key
from study.experiments.ablation import verdicts
from study.experiments.ablation.results import Results
from study.experiments.ablation.words import bounds
from study.report.cost import Cost

ORDER = ("supported", "refuted", "undecided")


def view(results: Results, cost: Cost, now: int) -> dict[str, Any]:
    """All that the template of the headline needs; ``now`` in milliseconds since 1970."""
    name, title = results.ablation.name, _title(results)
    return {
        "name": name,
        "page_title": f"{name}: {title} – studyline",
        "date": datetime.fromtimestamp(now / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC"),
        "datetime": datetime.fromtimestamp(now / 1000, UTC).isoformat(),
        "finished": results.finished,
        "title": title,
        "lede": lede(results, cost),
        "figures": keys(results, cost),
    }


def _title(results: Results) -> str:
    if not any(result.known for result in results.rows.values()):
        return "No training is complete" + ("" if results.finished else " yet")
    counts = _counts(results)
    if counts:
        text = _judged(counts)
        return text if results.finished else f"So far {text[0].lower()}{text[1:]}"
    return next((verdict.title for verdict in verdicts.most(results)), "One factor at a time")


def _judged(counts: Counter[str]) -> str:
    number, word = sum(counts.values()), next(iter(counts))
    if len(counts) > 1:
        return f"Of {number} hypotheses, {_joined(_worded(counts))}"
    return f"All {number} hypotheses are {word}" if number > 1 else f"The hypothesis is {word}"


def _counts(results: Results) -> Counter[str]:
    return Counter(item.judgement.verdict for item in results.hypotheses if item.judgement)


def _of_base(results: Results) -> list[Key]:
    run, seconds = results.base.first, results.base.seconds
    parameters, multiply_adds = (run.parameters, run.multiply_adds) if run else (None, None)
    return [
        Key("One training", seconds, formats.duration(seconds), "of the base, device time"),
        Key("Parameters", parameters, formats.short(parameters), "of the base"),
        Key("Multiply-adds", multiply_adds, formats.short(multiply_adds), "of the base, for one image"),
    ]


def _worded(counts: Counter[str]) -> list[str]:
    return [f"{counts[word]} {word}" for word in ORDER if counts[word]]


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def lede(results: Results, cost: Cost) -> str:
    """What was varied around what, and what the base comes to, in a few sentences."""
    ablation, history = results.ablation, results.facts.history
    factors = formats.plural(len(ablation.factors), "factor")
    each = f"on {results.seeds} seeds, the same for every row" if results.seeds > 1 else "on one seed"
    sentences = [formats.sentence(ablation.description)] if ablation.description else []
    sentences.append(
        f"{factors} changed one at a time around {ablation.origin} on {history.lineage.dataset.name}"
        + (", and two of them crossed" if ablation.grid else "")
        + f"; {formats.plural(len(results.rows), 'row')}, each trained {each}."
    )
    if found := results.base.accuracy:
        value = formats.percent(found.value, formats.digits_for(results.images))
        what = f"t interval over {found.n} seeds" if found.kind == "t" else f"Wilson, one training, {found.n:,} images"
        interval = f"95{formats.NARROW}% interval {bounds(found, results.images)}, {what}"
        sentences.append(f"The base has {value} validation accuracy ({interval}).")
    sentences.append(f"It took {formats.duration(cost.seconds)}. Test images were not opened.")
    if not results.finished:
        sentences.append("The ablation is not finished: all below is as of now.")
    return " ".join(sentences)


def keys(results: Results, cost: Cost) -> list[Key]:
    """The figures below the headline."""
    history = results.facts.history
    base, counts = results.base.accuracy, _counts(results)
    planned = results.seeds * len(results.rows)
    complete, failed = history.count("COMPLETE"), history.count("FAIL")
    device = sum(cost.device.values())
    apart = sum(result.told_apart for result in results.rows.values())
    told = sum(counts.values())
    return [
        Key(
            "Base",
            base.value if base else None,
            formats.percent(base.value if base else None, formats.digits_for(results.images)),
            f"validation accuracy, {results.images:,} images",
        ),
        Key("Told apart", apart, str(apart), f"of {len(results.rows) - 1} rows, from the base"),
        Key("Hypotheses", told, str(told), _joined(_worded(counts)) if counts else "none to judge"),
        Key("Trainings", complete, f"{complete:,}", f"of {planned:,} complete" + (f", {failed} failed" if failed else "")),
        Key("Device time", device, formats.duration(device), f"on {formats.plural(len(cost.slots), 'slot') or 'no slot'}"),
        *_of_base(results),
    ]
