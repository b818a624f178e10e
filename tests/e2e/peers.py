"""What real peers are met with: certificates to throw away, and gatelet before one API, over TLS or not."""

import datetime
import ipaddress
import json
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CONFIG = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"
{tls}
[[upstreams]]
name = "api"
{upstream}

[[routes]]
prefix = "/"
require = ["api_key"]
request_body = "unlimited"
{more}

[store]
kind = "embedded"
path = "{folder}/store"
"""


MONTHS = datetime.timedelta(days=60)


class Signed:
    """A certificate with its key, ECDSA on P-256 as most are by now; without `by` it is its own authority."""

    def __init__(self, name, by=None, is_authority=False):
        self.key = ec.generate_private_key(ec.SECP256R1())
        by = by or self
        now, public = datetime.datetime.now(datetime.timezone.utc), self.key.public_key()
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(by.name, self.name, public, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + MONTHS)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(usage(is_authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
        )
        if not is_authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            server = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(server, critical=False)
        self.certificate = builder.sign(by.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(Encoding.PEM)


def usage(is_authority):
    """What a key may be used for: either to sign what is agreed upon, or certificates."""
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    names += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    granted = {"key_cert_sign", "crl_sign"} if is_authority else {"digital_signature"}
    return x509.KeyUsage(**{name: name in granted for name in names})


class Certificate:
    """A certificate for this machine with its chain, and its key, in files."""

    def __init__(self, signed, chain, folder, name):
        self.serial = f"{signed.certificate.serial_number:X}"
        self.chain, self.key, self.both = (folder / f"{name}.{end}" for end in ["crt", "key", "pem"])
        key = signed.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.chain.write_bytes(signed.pem + chain)
        self.key.write_bytes(key)
        self.both.write_bytes(signed.pem + chain + key)


class Authority:
    """Who vouches for everybody in a test: a root that callers trust, and who signs on behalf of it."""

    def __init__(self, folder):
        self.folder, root = folder, Signed("A root", is_authority=True)
        self.between = Signed("In between", root, is_authority=True)
        self.file = folder / "ca.crt"
        self.file.write_bytes(root.pem)

    def issue(self, name="server"):
        """A certificate for `localhost` and 127.0.0.1, in files of this name."""
        return Certificate(Signed(name, self.between), self.between.pem, self.folder, name)


class World:
    """gatelet before an API, and a key for it; `more` goes to the configuration."""

    def __init__(self, start, folder, upstream, certificate=None, more=""):
        tls = certificate and f'[listen.tls]\ncertificate = "{certificate.chain}"\nprivate_key = "{certificate.key}"\n'
        self.gatelet = start(CONFIG.format(tls=tls or "", upstream=upstream, more=more, folder=folder))
        self.proxy = self.gatelet.proxy
        self.port = self.proxy.rsplit(":", 1)[1]
        self.url = f"{'https' if certificate else 'http'}://{self.proxy}"
        self.made = self.new_key("peer")
        self.key = self.made["key"]

    def new_key(self, name, *more):
        return self.gatelet.keys("create", "--name", name, "--owner", "acme", *more)

    def memory(self):
        """The most that it ever held of the machine's memory, in bytes."""
        with open(f"/proc/{self.gatelet.child.pid}/status") as status:
            (line,) = [line for line in status if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


class Curl:
    """A real curl, that keeps what it is answered in files, so that nothing large is printed."""

    def __init__(self, program, folder, *always):
        self.program, self.always = program, always
        self.head, self.body = folder / "answer.head", folder / "answer.body"

    def __call__(self, url, *arguments):
        """Asks for an address, which has to be answered with whatever status."""
        wanted = "%{http_version} %{num_connects} %{time_total}\n"
        command = [self.program, "-sS", "-m", "60", "-D", self.head, "-o", self.body, "-w", wanted, "--path-as-is"]
        done = subprocess.run([*command, *self.always, *arguments, url], capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, f"{url}: {done.stderr}"
        return Got(self.head.read_text(), self.body.read_bytes() if self.body.exists() else b"", done.stdout.split())


class Got:
    """What curl was answered."""

    def __init__(self, heads, body, noted):
        # Interim answers come first, and trailers last.
        *blocks, rest = heads.replace("\r\n", "\n").split("\n\n")
        while blocks[0].split()[1].startswith("1"):
            blocks.pop(0)
        self.lines = blocks[0].splitlines()
        self.status, self.body = int(self.lines[0].split()[1]), body
        self.headers = pairs(self.lines[1:])
        self.trailers = pairs("\n".join([*blocks[1:], rest]).splitlines())
        self.version, self.connects = noted[0], int(noted[1])

    def header(self, name):
        return [value for each, value in self.headers if each == name]

    @property
    def json(self):
        return json.loads(self.body)


def pairs(lines):
    """Header lines as pairs, the names in lower case."""
    split = (line.split(":", 1) for line in lines if line)
    return [(name.lower(), value.strip()) for name, value in split]
