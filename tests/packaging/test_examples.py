"""Every configuration that is shown to a reader is one that gatelet takes."""

import datetime
import re
import subprocess

import pytest
import tomllib
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from places import REPOSITORY

SHIPPED = [REPOSITORY / "config.toml", *sorted(REPOSITORY.glob("examples/*/config.toml"))]
PAGES = sorted(
    page
    for page in REPOSITORY.rglob("*.md")
    if not {"target", "node_modules"} & set(page.relative_to(REPOSITORY).parts)
)
# What a whole configuration cannot do without, for snippets that show one table.
REST = """
[[upstreams]]
name = "api"
url = "http://127.0.0.1:3000"
[[routes]]
prefix = "/"
require = ["api_key"]
[store]
kind = "embedded"
path = "data"
"""


def check(program, file):
    command = [program, "check", "--config", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={}, cwd=file.parent)
    return done.returncode, done.stdout + done.stderr


def names(paths):
    return [str(path.relative_to(REPOSITORY)) for path in paths]


@pytest.mark.parametrize("file", SHIPPED, ids=names(SHIPPED))
def test_shipped_configurations_hold(program, file):
    status, printed = check(program, file)

    assert status == 0, printed
    assert "warning" not in printed.lower()


def test_the_shipped_configuration_is_short():
    lines = (REPOSITORY / "config.toml").read_text().splitlines()
    active = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]

    assert len(active) <= 15


def test_every_example_is_listed_and_explained():
    listed = re.findall(r"\]\(([a-z-]+)/\)", (REPOSITORY / "examples/README.md").read_text())

    assert sorted(listed) == sorted(file.parent.name for file in SHIPPED[1:])
    for name in listed:
        assert f"examples/{name}/config.toml" in (REPOSITORY / f"examples/{name}/README.md").read_text()


def snippets():
    """What pages show to be copied; the reference shows single tables with their defaults."""
    for page in PAGES:
        if page == REPOSITORY / "docs/configuration.md":
            continue
        for number, toml in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.S), 1):
            yield pytest.param(toml, id=f"{page.relative_to(REPOSITORY)}:{number}")


@pytest.fixture(scope="session")
def identity():
    """A certificate and its key, in one text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api.internal")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + private


@pytest.mark.parametrize("toml", snippets())
def test_snippets_hold(program, tmp_path, identity, toml):
    for shown in re.findall(r"(?m)^[^#\n]*\"(tls/[a-z.-]+)\"", toml):
        file = tmp_path / shown
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(identity)
        file.chmod(0o600)
    shown = tomllib.loads(toml)
    missing = [table for table in re.split(r"(?m)^(?=\[)", REST) if (name := re.match(r"\[+(\w+)", table)) and name[1] not in shown]
    file = tmp_path / "config.toml"
    file.write_text(toml + "\n" + "".join(missing))

    status, printed = check(program, file)

    assert status == 0, printed


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target
