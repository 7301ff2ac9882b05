"""``python -m pipeline.config check`` checks params.yaml; ``python -m pipeline.config schema`` prints its JSON schema."""

import json
import sys

from pipeline.config import ConfigError, load, schema

if sys.argv[1:] == ["schema"]:
    print(json.dumps(schema(), indent=2))
elif sys.argv[1:] == ["check"]:
    try:
        load()
    except ConfigError as error:
        sys.exit(f"error: {error}")
else:
    sys.exit(__doc__)
