"""What callers show and proxies check besides keys: access tokens, and a certificate."""

import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER = "https://issuer.test"
AUDIENCE = "api"
TOKENS = 5_000


class Material:
    """Files in one folder: a certificate with its key, an issuer's public keys, and its tokens, one a line."""

    def __init__(self, folder):
        folder = Path(folder)
        self.certificate, self.private_key = folder / "tls.crt", folder / "tls.key"
        # As HAProxy wants them.
        self.certificate_and_key = folder / "tls.pem"
        self.jwks, self.public_key, self.tokens = folder / "jwks.json", folder / "issuer.pem", folder / "tokens"

        key = ec.generate_private_key(ec.SECP256R1())
        # Its owner's alone, which gatelet asks for.
        self.private_key.touch(0o600)
        self.private_key.write_bytes(pem(key))
        self.certificate.write_bytes(self_signed(key))
        self.certificate_and_key.write_bytes(self.certificate.read_bytes() + self.private_key.read_bytes())

        signer = ec.generate_private_key(ec.SECP256R1())
        published = jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key(), as_dict=True)
        published |= {"kid": "bench", "alg": "ES256", "use": "sig"}
        self.jwks.write_text(json.dumps({"keys": [published]}))
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public_key.write_bytes(signer.public_key().public_bytes(serialization.Encoding.PEM, public))
        tokens = [token(number, signer) for number in range(TOKENS)]
        self.tokens.write_text("".join(f"{each}\n" for each in tokens))
        self.one_token = tokens[0]
        # Good but for its signature.
        self.forged_token = token(0, ec.generate_private_key(ec.SECP256R1()))


def token(number, signer):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"user-{number}", "iat": now, "exp": now + 12 * 3600}
    return jwt.encode(claims, signer, "ES256", {"kid": "bench"})


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def self_signed(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
