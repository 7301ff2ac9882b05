"""Copies of the ledger in Optuna's storage and MLflow, kept up to date by a separate process, ``python -m study.stores``.

May import state.
"""
