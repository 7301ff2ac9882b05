"""Search spaces: which keys of ``params.yaml`` a study varies, and how; a space is data, see ``spaces/*.yaml``.

May import nothing else of ``study``.
"""
