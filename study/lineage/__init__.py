"""Which run a name means, where it comes from, and its way into ``params.yaml``.

May import state.
"""
