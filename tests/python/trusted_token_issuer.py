"""Checks the call that `steward setup` wrote with Amazon's own model, and that the command has the same values.

Usage: trusted_token_issuer.py INPUT.json SHEET.md
"""

import json
import re
import shlex
import sys
from pathlib import Path

import botocore.session
from botocore.validate import validate_parameters

wanted = json.loads(Path(sys.argv[1]).read_text())
service = botocore.session.get_session().get_service_model("sso-admin")
shape = service.operation_model("CreateTrustedTokenIssuer").input_shape
validate_parameters(wanted, shape)


def patterns(value, shape):
    """What the model demands and its validation leaves to the server."""
    if shape.type_name == "structure":
        for name, part in value.items():
            patterns(part, shape.members[name])
    pattern = shape.metadata.get("pattern")
    if pattern:
        plain = pattern.replace(r"\p{L}", "[A-Za-z]")
        assert re.fullmatch(plain, value), f"{value} is not {pattern}"


patterns(wanted, shape)
block = next(block for block in re.findall(r"```sh\n(.*?)```", Path(sys.argv[2]).read_text(), re.S) if "--instance-arn" in block)
words = shlex.split(block.replace("\\\n", " "))
assert words[:3] == ["aws", "sso-admin", "create-trusted-token-issuer"], words
options = dict(zip(words[3::2], words[4::2]))
assert options["--instance-arn"] == wanted["InstanceArn"]
assert options["--name"] == wanted["Name"]
assert options["--trusted-token-issuer-type"] == wanted["TrustedTokenIssuerType"]
assert json.loads(options["--trusted-token-issuer-configuration"]) == wanted["TrustedTokenIssuerConfiguration"]
