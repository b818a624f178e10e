"""A real npm installs from and publishes to a registry behind examples/npm-registry."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile

import pytest

from processes import Api


def tarball():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        manifest = json.dumps({"name": "@acme/widget", "version": "1.0.0"}).encode()
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))
    return content.getvalue()


class Registry(Api):
    """A registry with one scoped package, @acme/widget."""

    def __init__(self):
        super().__init__(self.reply)
        self.tarball = tarball()

    def reply(self, request):
        if request["method"] == "PUT":
            return 201, "application/json", b"{}"
        if request["target"].endswith(".tgz"):
            return 200, "application/octet-stream", self.tarball
        if request["target"].lower() != "/@acme%2fwidget":
            return 404, "application/json", b"{}"
        host = dict(request["headers"])["host"]
        digest = base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
        version = {
            "name": "@acme/widget",
            "version": "1.0.0",
            "dist": {"tarball": f"http://{host}/@acme/widget/-/widget-1.0.0.tgz", "integrity": f"sha512-{digest}"},
        }
        packument = {"name": "@acme/widget", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        return 200, "application/json", json.dumps(packument).encode()


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def gatelet(start, registry, repository, tmp_path):
    config = (repository / "examples/npm-registry/config.toml").read_text()
    config = config.replace("http://127.0.0.1:4873", registry.url)
    config = re.sub(r'"127\.0\.0\.1:(8080|9464)"', '"127.0.0.1:0"', config)
    config = config.replace('"gatelet-data"', f'"{tmp_path}/store"')
    return start(config)


@pytest.fixture
def npm(tool, gatelet, tmp_path):
    """Runs npm in a project whose .npmrc is the one of the example's README."""

    def run(key, *arguments):
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "package.json").write_text(json.dumps({"name": "@acme/mine", "version": "1.2.3"}))
        (project / ".npmrc").write_text(
            f"registry=http://{gatelet.proxy}/\n//{gatelet.proxy}/:_authToken=${{NPM_TOKEN}}\n"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "NPM_TOKEN": key,
            "npm_config_cache": str(tmp_path / "cache"),
            "npm_config_fetch_retries": "0",
            "npm_config_update_notifier": "false",
        }
        command = [tool("npm"), *arguments, "--no-audit", "--no-fund"]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_a_key_installs_a_scoped_package(gatelet, registry, npm, tmp_path):
    key = gatelet.keys("create", "--name", "laptops", "--scope", "packages:read")["key"]

    done = npm(key, "install", "@acme/widget")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "project/node_modules/@acme/widget/package.json").exists()
    assert [each["target"].lower() for each in registry.received] == [
        "/@acme%2fwidget",
        "/@acme/widget/-/widget-1.0.0.tgz",
    ]
    for request in range(len(registry.received)):
        assert registry.header("authorization", request) == []
        assert registry.header("x-auth-subject", request) == ["laptops"]


def test_a_reading_key_does_not_publish(gatelet, registry, npm):
    key = gatelet.keys("create", "--name", "laptops", "--scope", "packages:read")["key"]

    done = npm(key, "publish")

    assert done.returncode != 0
    assert "403" in done.stderr
    assert not [each for each in registry.received if each["method"] == "PUT"]


def test_a_writing_key_publishes(gatelet, registry, npm):
    scopes = ["--scope", "packages:read", "--scope", "packages:write"]
    key = gatelet.keys("create", "--name", "release", *scopes)["key"]

    done = npm(key, "publish")

    assert done.returncode == 0, done.stderr
    published = [each for each in registry.received if each["method"] == "PUT"]
    assert [each["target"].lower() for each in published] == ["/@acme%2fmine"]
    assert json.loads(published[0]["body"])["name"] == "@acme/mine"


def test_a_stranger_is_told_that_it_needs_a_token(registry, npm):
    done = npm("gk_unknown-and-of-no-minted-shape", "install", "@acme/widget")

    assert done.returncode != 0
    assert "E401" in done.stderr
    assert registry.received == []
