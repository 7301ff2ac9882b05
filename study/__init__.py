"""Searching and comparing: studies over the trainings of ``pipeline``."""
