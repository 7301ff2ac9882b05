"""Print the JSON schema of ``params.yaml``: ``make schema``."""

import json

from pipeline.config import schema

print(json.dumps(schema(), indent=2))
