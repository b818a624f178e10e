"""The API keys that callers show: one that is known, and some that are not."""

import hashlib
import string
import zlib

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def key(number):
    """The same keys on every run: 40 characters, as imported ones may look."""
    return "brought-along-" + hashlib.sha256(str(number).encode()).hexdigest()[:26]


# Among those that every proxy knows.
VALID_KEY = key(500)
UNKNOWN_KEY = key(1_000_000)


def garbage_key():
    """The shape of a key that gatelet has minted, with a checksum that does not fit."""
    secret = "".join(BASE62[byte % 62] for byte in hashlib.sha512(b"garbage").digest()[:43])
    wrong = (zlib.crc32(secret.encode()) ^ 1) & 0xFFFF_FFFF
    digits = ""
    for _ in range(6):
        wrong, digit = divmod(wrong, 62)
        digits = BASE62[digit] + digits
    return f"gk_{secret}{digits}"
