"""All that is computed for a report, once; verdicts, tables and figures only read it."""

from __future__ import annotations

from dataclasses import dataclass

from study.report.chance import Chance, chance
from study.report.cost import Cost, cost
from study.report.facts import Facts
from study.report.importance import Importances, importances


@dataclass(frozen=True)
class Findings:
    facts: Facts
    importances: Importances
    chance: Chance
    cost: Cost

    @classmethod
    def of(cls, facts: Facts) -> Findings:
        return cls(facts, importances(facts), chance(facts), cost(facts.history))
