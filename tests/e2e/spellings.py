"""What strangers write where an upstream may read the path of something guarded.

Nothing here says what a spelling means: that is for the routers to show, by what they run.
"""

from itertools import islice, product

# What `routers/` guards, as an honest caller writes it.
GUARDED = [b"/admin/users", b"/public/vault/secret", b"/settings", b"/public/report", b"/admin"]

# What they serve to anybody, and may be written in more than one way.
OPEN = [
    b"/",
    b"/public",
    b"/public/",
    b"/public/page",
    b"/public/p%61ge",
    b"/public/page?x=/../admin/users",
    b"/public/page?/admin%2fusers",
    b"/public/vaulted",
    b"/public/reports",
    b"/public/settings",
    b"/admin/health",
    b"/administrator",
    b"/settings2",
    b"/elsewhere/admin",
    b"/elsewhere/a%20b;v=1",
    b"/elsewhere/%e2%82%ac",
    b"/elsewhere//x",
]

# A segment that climbs, for one reader or another.
DOTS = [
    b"..",
    b"%2e%2e",
    b".%2E",
    b"%2e.",
    b"%252e%252e",
    b"%25%32%65%25%32%65",
    b"..;",
    b"..;x=1",
    b"%2e%2e;x",
    b"..%3b",
    b"..%253bx",
    b"..%00",
    b"..%0a",
    b"..\t",
    b"..%23",
    b"..#",
    b"..%20",
    b"...",
    b"%c0%ae%c0%ae",
    b"%e0%80%ae%e0%80%ae",
    b"\xc0\xae\xc0\xae",
    b"%u002e%u002e",
    "．．".encode(),
    b"%ef%bc%8e%ef%bc%8e",
]

# What stands between two segments, for one reader or another.
SLASHES = [
    b"/",
    b"%2f",
    b"%2F",
    b"%252f",
    b"\\",
    b"%5c",
    b"%255C",
    b"//",
    b"/\\",
    b"/./",
    b"/%2e/",
    b"/;/",
    b";/",
    b";x=1/",
    b"/;x/",
    b"%3b/",
    b"/%2f",
    b"/x/../",
    b"/x/%2e%2e/",
    b"/x%2f..%2f",
    b"%00/",
    b"%09/",
    b"\x01/",
    b"%c0%af",
    b"%e0%80%af",
    b"\xc0\xaf",
    b"%u2215",
    "／".encode(),
    b"%ef%bc%8f",
]

# What may follow a path and leave it as it is.
ENDINGS = [
    b"/",
    b"//",
    b"/.",
    b"/./",
    b"/x/..",
    b"/x/../",
    b"/%2e",
    b"/%2e%2e/",
    b"%2f",
    b"%252f",
    b"\\",
    b"%5c",
    b";",
    b";x=1",
    b";/public",
    b"%3b",
    b"%3bx",
    b"/;",
    b"?",
    b"?/public",
    b"?x=/public/page",
    b"%3f",
    b"%3fx=/public",
    b"%253f",
    b"#",
    b"#/public",
    b"#/../public",
    b"%23",
    b"%23/../../public",
    b"%2523",
    b"%00",
    b"%00.html",
    b"%00/../public",
    b"\x00",
    b"%0a",
    b"%0d%0a",
    b"\t",
    b"%20",
    b"%20%20",
    b"%2520",
    b"%20;x",
    b";x%20",
    b"%20%23",
    b"%3b%20x",
    b"%20/",
    b"/%20",
    b"%20/public",
    b"%20HTTP/1.1",
    b"%20x",
    b"%a0",
    b"%25a0",
    b"%c2%a0",
    b"%25c2%25a0",
    b"%ef%bb%bf",
    b"%e2%80%83",
    b"%c2%85",
    b" /public",
    b".",
    b"..",
    b"%2e",
    b"\xff",
    b"%ff",
    b"%",
    b"%zz",
    b"~",
    b"*",
    b"/../public/../admin/users",
]

# What may stand before a path and leave it as it is.
BEGINNINGS = [
    b"/",
    b"//",
    b"/.",
    b"/./.",
    b"/%2e",
    b"/%2f",
    b"/%2F/",
    b"/;",
    b"/;x",
    b"/;x=/",
    b"\\",
    b"/\\",
    b"/%5c",
    b"/%255c",
    b"/%252f",
    b"/..",
    b"/../..",
    b"/%2e%2e",
    b"/x/..",
    b"/x/%2e%2e",
    b"/x%2f..",
    b"/public/..",
    b"/public/%2e%2e",
    b"/public%2f..",
    b"/public/..;",
    b"/public/page/../..",
    b"/public;/..",
    b"/public%3b/..",
    b"/public#/..",
    b"/public%23/..",
    b"/public%3f/..",
    b"/admin/health/../..",
    b"//elsewhere",
    b"//elsewhere@host",
    b"http://HOST",
    b"HTTP://HOST",
    b"https://HOST",
    b"http://HOST/",
    b"http://HOST/public/..",
    b"http://HOST/public/%2e%2e",
    b"http://HOST\\",
    b"http://elsewhere",
    b"http://user@HOST",
    b"http:",
    b"http:/",
    b"http:///",
    b"http:http://HOST",
    b"/http://HOST",
    b"",
    b"%2f",
    b"*",
    b".",
    b"?",
    b"#",
]

# A few of each, for what takes them in all combinations.
FEW_DOTS = [b"..", b"%2e%2e", b"%252e%252e", b"..;x", b"..%5c.."]
FEW_SLASHES = [b"/", b"%2f", b"\\", b"%5c", b"//"]
FEW_ENDINGS = [b"", b"/", b";x", b"%2f", b"%23", b"%3f", b"/%2e"]
FEW_BEGINNINGS = [b"", b"/", b"/.", b"/;", b"/public/..", b"/public%2f..", b"/%5c", b"http://HOST"]


def escaped(text: bytes) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in text)


def escaped_twice(text: bytes) -> bytes:
    return escaped(text).replace(b"%", b"%25")


def overlong(text: bytes) -> bytes:
    """In two bytes of UTF-8 where one is enough."""
    return b"".join(b"%%%02x%%%02x" % (0xC0 | byte >> 6, 0x80 | byte & 0x3F) for byte in text)


def respelled(path: bytes):
    """The path with other letters."""
    at = len(path) - 2
    for change in (bytes.upper, bytes.title, bytes.swapcase, escaped, escaped_twice, overlong):
        yield b"/" + b"/".join(change(segment) for segment in path[1:].split(b"/"))
        for first, last in [(1, 2), (at, at + 1)]:
            yield path[:first] + change(path[first:last]) + path[last:]
    yield escaped(path)
    yield b"/" + escaped(path[1:])
    yield b"/" + escaped(path[1:].upper())
    yield path[:2] + b"%u00" + b"%02x" % path[2] + path[3:]
    yield path.replace(b"s", "ſ".encode())
    yield path.replace(b"i", "ı".encode())
    yield path.replace(b"s", b"%c5%bf")
    yield path[:3] + b"\x00" + path[3:]
    yield path[:3] + b"%00" + path[3:]
    yield path[:3] + b"\xad" + path[3:]
    yield path[:3] + b"%c2%ad" + path[3:]


def separated(path: bytes):
    """The path with other slashes, one at a time and all at once."""
    places = [at for at, byte in enumerate(path) if byte == ord("/")]
    for slash in SLASHES:
        yield path.replace(b"/", slash)
        for at in places:
            yield path[:at] + slash + path[at + 1 :]


def climbing(base: bytes, path: bytes, dots: bytes, before: bytes, after: bytes) -> bytes:
    """From below `base` up to the root, and down to the path."""
    return base + (before + dots) * base.count(b"/") + after + path[1:]


def combined():
    """Several of these at once, every so many of all there are."""
    letters = [bytes, bytes.upper, lambda path: path[:2] + escaped(path[2:3]) + path[3:]]
    everything = product(FEW_BEGINNINGS, GUARDED, letters, FEW_SLASHES, FEW_ENDINGS)
    for beginning, path, letter, slash, ending in islice(everything, 0, None, 13):
        yield beginning + b"/" + letter(path)[1:].replace(b"/", slash) + ending


def all_of_them():
    for path in GUARDED:
        yield path
        yield from respelled(path)
        yield from separated(path)
        yield from (path + ending for ending in ENDINGS)
        yield from (beginning + path for beginning in BEGINNINGS)
    for dots, slash in product(DOTS, SLASHES[:12]):
        yield climbing(b"/public", GUARDED[0], dots, b"/", slash)
        yield climbing(b"/public", GUARDED[0], dots, slash, slash)
    for base in (b"/public/page", b"/elsewhere", b"/admin/health", b"/public;x/y"):
        for path, dots, slash in product(GUARDED[:3], FEW_DOTS, FEW_SLASHES):
            yield climbing(base, path, dots, b"/", slash)
            yield climbing(base, path, dots, slash, slash)
    for dots, slash in product(FEW_DOTS, FEW_SLASHES):
        yield b"/public/x" + slash + dots + slash + b"vault" + slash + b"secret"
        yield b"/admin/health" + slash + dots + slash + b"users"
    yield from combined()


# Each once, in the order in which they were thought of.
SPELLINGS = list(dict.fromkeys(all_of_them()))
