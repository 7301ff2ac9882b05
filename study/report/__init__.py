"""What a study found, for people: one page with verdicts first, figures, tables and lineage."""

from study.report.report import Report, build

__all__ = ["Report", "build"]
