"""A search or a plan under way: the request, the arrays, proposals, the coordinator's loop, finalists and the live view.

May import stores, workers, space and state.
"""
