"""Verifies an access token as an API in Python would, with keys fetched from gatelet."""

import json
import sys

import jwt

told = json.loads(sys.argv[1])
keys = jwt.PyJWKClient(f"{told['url']}/.well-known/jwks.json", timeout=10)
claims = jwt.decode(
    told["token"],
    keys.get_signing_key_from_jwt(told["token"]),
    algorithms=[told["algorithm"]],
    audience="api",
    issuer=told["url"],
    options={"require": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]},
)

print(json.dumps({"header": jwt.get_unverified_header(told["token"]), "claims": claims}))
