"""Ablations: one factor changed at a time from a base, and written hypotheses judged."""
