"""How an ablation's numbers are worded: accuracies, differences in points, p-values."""

from __future__ import annotations

from pipeline.evaluation.statistics import PairedDifference, p_equals
from pipeline.report import formats
from study.experiments.ablation.results import Result
from study.report.facts import Range


def points(share: float) -> str:
    """A difference of shares in percentage points: ``+1.20``."""
    return f"{100 * share:+.2f}".replace("-", "\u2212")


def bounds(found: Range, images: int) -> str:
    """``97.1 to 97.9 %``"""
    digits = formats.digits_for(images)
    return f"{formats.percent(found.low, digits).removesuffix(f'{formats.NARROW}%')} to {formats.percent(found.high, digits)}"


def difference(found: PairedDifference) -> str:
    """``+0.52 points (0.10 to 0.94, paired over 5 seeds)``"""
    return f"{points(found.value)} points ({points(found.low)} to {points(found.high)}, paired over {found.n} seeds)"


def against_base(result: Result) -> str:
    """A row's difference to the base, with its corrected p-value; as far as there is one."""
    if result.difference is None or result.p_holm is None:
        return "not compared" if result.gap is None else f"{points(result.gap)} points on the one seed that both have"
    return f"{difference(result.difference)}, Holm-corrected {p_equals(result.p_holm)}"
