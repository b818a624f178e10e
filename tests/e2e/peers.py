"""What real peers are met with: certificates to throw away, and gatelet before one API, over TLS or not."""

import json
import subprocess

import trustme

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


class Certificate:
    """A certificate for this machine with its chain, and its key, in files."""

    def __init__(self, issued, folder, name):
        self.issued = issued
        self.chain, self.key, self.both = (folder / f"{name}.{end}" for end in ["crt", "key", "pem"])
        self.chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        issued.private_key_and_cert_chain_pem.write_to_path(self.both)


class Authority:
    """Who vouches for everybody in a test: ECDSA on P-256, as most certificates are by now."""

    def __init__(self, folder):
        self.folder = folder
        self.made = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.file = folder / "ca.crt"
        self.made.cert_pem.write_to_path(self.file)

    def issue(self, name="server", **options):
        """A certificate for `localhost` and 127.0.0.1, in files of this name."""
        options = {"key_type": trustme.KeyType.ECDSA, **options}
        return Certificate(self.made.issue_cert("localhost", "127.0.0.1", **options), self.folder, name)


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
        """What it holds of the machine's memory, in bytes."""
        with open(f"/proc/{self.gatelet.child.pid}/status") as status:
            (line,) = [line for line in status if line.startswith("VmRSS:")]
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
