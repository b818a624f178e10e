"""What real peers are met with: certificates to throw away, and gatelet before one API, over TLS or not."""

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
