"""How sure a finding must be: the level of every interval and test, and its correction where there are several."""

from __future__ import annotations

from collections.abc import Sequence

CONFIDENCE = 0.95  # of every interval that is printed, but for that of an equivalence
ALPHA = 0.05  # a p-value below it is a finding


def p_text(p_value: float) -> str:
    """A p-value as people read it: ``0.031``, ``< 0.001``."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def p_equals(p_value: float) -> str:
    """``p = 0.031``, ``p < 0.001``."""
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being several, in the order given: those below 0.05 are all true in 95 % of such families.

    Source: Holm 1979 (Scand. J. Statist. 6, 65). No independence is assumed.

    Raises
    ------
    ValueError
        One that is not in [0, 1].
    """
    if not all(0 <= p_value <= 1 for p_value in p_values):
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = float(largest)
    return corrected
