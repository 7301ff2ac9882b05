"""Optuna's storage and MLflow, brought to where the ledger is by a process of its own: ``python -m study.stores``.

May import state.
"""
