"""Find a run by name, trace its lineage, and promote it to ``params.yaml``.

May import state.
"""
