"""Search spaces: which keys of ``params.yaml`` a study varies, and how. A space is data: see ``study/spaces/*.yaml``."""

from study.space.keys import SpaceError
from study.space.space import SHIPPED, Space

__all__ = ["SHIPPED", "Space", "SpaceError"]
