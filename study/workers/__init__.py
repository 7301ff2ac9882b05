"""Workers that train: the protocol, local processes, Ray, the slots of a machine, and the segment that a worker trains.

May import nothing else of ``study``.
"""
