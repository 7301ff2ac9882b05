"""The level of all intervals and tests, the text of p-values, and their correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence

CONFIDENCE = 0.95  # of every printed interval except that of an equivalence
ALPHA = 0.05  # a p-value below it is a finding


def p_text(p_value: float) -> str:
    """Return the text of a p-value: ``0.031``, ``< 0.001``."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def p_equals(p_value: float) -> str:
    """Return ``p = 0.031`` or ``p < 0.001``."""
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for several tests, in the given order: in 95 % of such families all those below 0.05 are true.

    Source: Holm 1979 (Scand. J. Statist. 6, 65). No independence is assumed.

    Raises ValueError if a value is not in [0, 1].
    """
    if not all(0 <= p_value <= 1 for p_value in p_values):
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = float(largest)
    return corrected
