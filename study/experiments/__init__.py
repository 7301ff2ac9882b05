"""Ablations, comparisons and reproductions: experiments as data, their results, verdicts and pages.

May import report, engine, stores, lineage, workers, space and state.
"""
