"""Runs, studies and rows of ablations side by side: what differs, by how much, and whether chance explains it."""

from study.comparison.comparison import Comparison, compare
from study.comparison.page import write
from study.comparison.terminal import render_terminal

__all__ = ["Comparison", "compare", "render_terminal", "write"]
