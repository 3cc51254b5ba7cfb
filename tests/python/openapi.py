"""Checks an OpenAPI document against the specification. Usage: openapi.py FILE"""

import json
import sys

from openapi_spec_validator import validate

with open(sys.argv[1]) as file:
    validate(json.load(file))
