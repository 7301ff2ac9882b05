"""Search spaces: the keys of ``params.yaml`` that a study varies, and their ranges; a space is data, see ``spaces/*.yaml``.

May import nothing else of ``study``.
"""
