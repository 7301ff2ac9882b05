"""The page of a study, and the frame that all pages share: computed first, then worded, drawn and written.

May import engine, stores, space and state; no search reads it.
"""
