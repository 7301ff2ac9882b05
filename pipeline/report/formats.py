"""Numbers as people read them; what is undefined is an en dash."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

NOTHING = "–"
SPACE = "\u00a0"  # a number and its unit stay on one line
NARROW = "\u202f"


def percent(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f}{NARROW}%"


def probability(value: float) -> str:
    """One decimal; what would round to certainty says so."""
    return f"> 99.9{NARROW}%" if 0.9995 <= value < 1 else percent(value, 1)


def digits_for(n: int) -> int:
    """Decimals of a percentage of ``n`` images: no more than one image can move."""
    return 2 if n >= 2000 else 1


def decimal(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Three digits and a power of a thousand: 1,234,567 as 1.23 M."""
    if value is None or value < 10_000:
        return count(value)
    rounded = float(f"{value:.3g}")
    power = min(int(math.log10(rounded) // 3), 4)
    return f"{rounded / 1000**power:.3g}{SPACE}{' kMGT'[power]}"


def size(n_bytes: int) -> str:
    """Bytes with a decimal unit."""
    if n_bytes < 1000:
        return f"{n_bytes}{SPACE}B"
    return f"{short(n_bytes)}B" if n_bytes >= 10_000 else f"{n_bytes / 1000:.1f}{SPACE}kB"


def duration(seconds: float | None) -> str:
    """Two units at most: 2.45 s, 1 min 22 s, 3 h 1 min."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.3g}{SPACE}s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {left}{SPACE}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{SPACE}h {minutes}{SPACE}min"


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}{SPACE}ms"


def general(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}".replace("-", "\u2212")


def scalar(value: Any) -> str:
    """A configuration value as params.yaml writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def plural(number: int, noun: str) -> str:
    """``1 epoch``, ``10 epochs``; nothing for none."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else ""


def listed(names: Sequence[str], most: int | None = None) -> str:
    """``a``, ``a and b``, ``a, b and c``; of more than ``most`` the first, and how many more."""
    shown = list(names) if most is None or len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(part for part in (", ".join(shown[:-1]), *shown[-1:]) if part)


def span(low: float, high: float, show: Callable[[float], str] = percent) -> str:
    """``97.60 to 98.35 %``, the unit once."""
    return f"{show(low).removesuffix(f'{NARROW}%')} to {show(high)}"


def signed(share: float) -> str:
    """A difference of shares in percentage points, as far as there are such: ``+1.20``."""
    return f"{100 * min(max(share, -1.0), 1.0):+.2f}".replace("-", "\u2212")


def moment(milliseconds: int) -> datetime:
    """The time so long after 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def date(when: datetime) -> str:
    """``7 Mar 2026, 14:05 UTC``; without a zone that is not known."""
    return when.strftime("%-d %b %Y, %H:%M" + (" UTC" if when.tzinfo is UTC else ""))


def sentence(text: str) -> str:
    """With a capital, unless it begins with a name in code, and with a full stop."""
    capital = re.match(r"[a-z]+[ ,]", text)
    return (text[:1].upper() + text[1:] if capital else text) + ("" if text.endswith((".", "?", "!")) else ".")


FILTERS: Mapping[str, Any] = {
    function.__name__: function
    for function in (percent, probability, decimal, count, short, size, duration, milliseconds, general, scalar, sentence, date)
}
