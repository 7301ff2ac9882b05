"""Runs, studies and rows of ablations side by side: what differs, by how much, and whether chance explains it."""
