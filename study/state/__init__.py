"""What is known of a study: its ledger on disk, the history folded from it, its definition and its errors.

May import nothing else of ``study``.
"""
