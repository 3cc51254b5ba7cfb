"""Signs a request with botocore and a profile that has a `credential_process`; prints whose key it used.

Usage: AWS_CONFIG_FILE=... assume_role.py PROFILE
"""

import sys

from botocore.session import Session

credentials = Session(profile=sys.argv[1]).get_credentials()
frozen = credentials.get_frozen_credentials()
print(credentials.method, frozen.access_key, frozen.token, credentials.refresh_needed())
