"""A real npm publishes to and installs from a real Verdaccio behind examples/npm-registry."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from processes import BOUND, Api, Process, free_address

EXAMPLE = "examples/npm-registry"
INVALID = "Unable to authenticate, your authentication token seems to be invalid."


class Verdaccio(Process):
    """Verdaccio with the configuration of the example, its storage beside it, ready."""

    def __init__(self, program, folder):
        self.address = free_address()
        self.url = f"http://{self.address}"
        config = folder / "verdaccio.yaml"
        config.write_text(config.read_text().replace("127.0.0.1:4873", self.address))
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        super().__init__([program, "--config", config], env=environment, cwd=folder)
        self.wait_for("http address")

    def ask(self, path, method="GET"):
        """Asks past gatelet, for who does not mind a refusal; the status."""
        try:
            return urllib.request.urlopen(urllib.request.Request(self.url + path, method=method), timeout=BOUND).status
        except urllib.error.HTTPError as refused:
            return refused.code

    def log(self):
        """What it wrote of all requests until now: it writes in order, but not at once."""
        mark = f"/mark-{time.monotonic_ns()}"
        self.ask(mark)
        self.wait_for(mark)
        return self.output


@pytest.fixture(scope="module")
def registry(tool, repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry") / "example"
    # Without the storage of whoever tried the example where it is.
    shutil.copytree(repository / EXAMPLE, folder, ignore=shutil.ignore_patterns("storage"))
    running = Verdaccio(tool("verdaccio"), folder)
    yield running
    running.stop()


@pytest.fixture
def guard(start, repository, tmp_path):
    """Starts gatelet as the example does, before a registry."""

    def run(registry):
        config = (repository / EXAMPLE / "config.toml").read_text()
        config = config.replace("http://127.0.0.1:4873", registry.url)
        config = re.sub(r'"127\.0\.0\.1:(8080|9464)"', '"127.0.0.1:0"', config)
        config = config.replace('"gatelet-data"', f'"{tmp_path}/store"')
        return start(config)

    return run


@pytest.fixture
def gatelet(guard, registry):
    return guard(registry)


@pytest.fixture
def reading(gatelet):
    return gatelet.keys("create", "--name", "laptops", "--scope", "packages:read")


@pytest.fixture
def writing(gatelet):
    scopes = ["--scope", "packages:read", "--scope", "packages:write"]
    return gatelet.keys("create", "--name", "release", "--expires-in", "90d", *scopes)


class Project:
    """A folder with a package.json, and the .npmrc of the example's README."""

    def __init__(self, npm, proxy, folder, name, version="1.0.0"):
        self.npm, self.folder, self.home = npm, folder, folder.parent
        folder.mkdir()
        (folder / ".npmrc").write_text(f"registry=http://{proxy}/\n//{proxy}/:_authToken=${{NPM_TOKEN}}\n")
        (folder / "index.js").write_text(f'module.exports = "{name}";\n')
        self.write(name, version)

    def write(self, name, version):
        (self.folder / "package.json").write_text(json.dumps({"name": name, "version": version}))

    def run(self, key, *arguments):
        """Runs npm with a key in the environment, or without."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "npm_config_cache": str(self.home / "cache"),
            "npm_config_fetch_retries": "0",
            "npm_config_update_notifier": "false",
            **({"NPM_TOKEN": key} if key else {}),
        }
        return subprocess.run(
            [self.npm, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def does(self, key, *arguments):
        """Runs npm, which has to succeed; what it printed."""
        done = self.run(key, *arguments)
        assert done.returncode == 0, f"npm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def fails(self, key, *arguments):
        """Runs npm, which has to fail; what it said."""
        done = self.run(key, *arguments)
        assert done.returncode != 0, f"npm {' '.join(arguments)}: {done.stdout}"
        return done.stderr

    def installed(self, name):
        """The package.json of an installed package, if it is there."""
        file = self.folder / "node_modules" / name / "package.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def project(tool, gatelet, tmp_path):
    return lambda folder, *package: Project(tool("npm"), gatelet.proxy, tmp_path / folder, *package)


@pytest.fixture
def app(project):
    """A project that installs."""
    return project("app", "app")


def test_what_one_key_publishes_another_installs(gatelet, reading, writing, project, app):
    assert "+ @acme/widget@1.0.0" in project("widget", "@acme/widget").does(writing["key"], "publish")

    app.does(reading["key"], "install", "@acme/widget")

    assert app.installed("@acme/widget")["version"] == "1.0.0"
    assert (app.folder / "node_modules/@acme/widget/index.js").read_text() == 'module.exports = "@acme/widget";\n'
    locked = json.loads((app.folder / "package-lock.json").read_text())["packages"]["node_modules/@acme/widget"]
    assert locked["resolved"] == f"http://{gatelet.proxy}/@acme/widget/-/widget-1.0.0.tgz"
    tarball = json.loads(app.does(reading["key"], "view", "@acme/widget", "dist", "--json"))["tarball"]
    assert tarball == locked["resolved"]


def test_the_registry_knows_who_calls(reading, project, app):
    assert app.does(reading["key"], "whoami") == "laptops\n"


def test_the_registry_does_nothing_for_who_is_unknown(registry):
    assert [registry.ask("/@acme%2fwidget", method) for method in ("GET", "PUT")] == [401, 401]


def test_a_large_package_is_published_and_installed(reading, writing, project, app):
    large = project("large", "@acme/large")
    # More than gatelet and Verdaccio each take by themselves, and nothing that compresses.
    (large.folder / "noise").write_bytes(os.urandom(12 * 1024 * 1024))
    large.does(writing["key"], "publish")

    app.does(reading["key"], "install", "@acme/large")

    assert (app.folder / "node_modules/@acme/large/noise").stat().st_size == 12 * 1024 * 1024


def test_a_reading_key_changes_nothing(reading, writing, project, app):
    package = project("steady", "@acme/steady")
    package.does(writing["key"], "publish")
    package.write("@acme/steady", "1.0.1")

    for command in (
        ["publish"],
        ["dist-tag", "add", "@acme/steady@1.0.0", "old"],
        ["deprecate", "@acme/steady", "no"],
        ["unpublish", "@acme/steady@1.0.0", "--force"],
    ):
        said = package.fails(reading["key"], *command)
        assert "code E403" in said
        assert "scope_missing" in said

    seen = json.loads(app.does(reading["key"], "view", "@acme/steady", "--json"))
    assert (seen["versions"], seen["dist-tags"]) == (["1.0.0"], {"latest": "1.0.0"})
    assert "deprecated" not in seen


def test_a_writing_key_maintains_a_package(reading, writing, project, app):
    package = project("tended", "@acme/tended")
    package.does(writing["key"], "publish")
    package.write("@acme/tended", "2.0.0")
    package.does(writing["key"], "publish")

    package.does(writing["key"], "dist-tag", "add", "@acme/tended@1.0.0", "old")
    assert app.does(reading["key"], "dist-tag", "ls", "@acme/tended") == "latest: 2.0.0\nold: 1.0.0\n"
    package.does(writing["key"], "dist-tag", "rm", "@acme/tended", "old")
    package.does(writing["key"], "deprecate", "@acme/tended@1.0.0", "older")
    assert app.does(reading["key"], "view", "@acme/tended@1.0.0", "deprecated") == "older\n"
    assert "@acme/tended" in app.does(reading["key"], "search", "tended")

    package.does(writing["key"], "unpublish", "@acme/tended@2.0.0")
    assert app.does(reading["key"], "view", "@acme/tended", "dist-tags.latest") == "1.0.0\n"
    package.does(writing["key"], "unpublish", "@acme/tended", "--force")
    assert "code E404" in app.fails(reading["key"], "view", "@acme/tended")


@pytest.mark.parametrize("key", [None, "gk_unknown-and-of-no-minted-shape"], ids=["no key", "an unknown key"])
@pytest.mark.parametrize("command", [["install", "@acme/secret"], ["view", "@acme/secret"], ["publish"]], ids=" ".join)
def test_a_stranger_is_told_that_its_token_is_wrong(registry, project, key, command):
    said = project("secret", "@acme/secret").fails(key, *command)

    assert "code E401" in said
    assert INVALID in said
    assert "secret" not in registry.log()


def test_without_a_line_in_npmrc_nothing_is_installed(writing, project, app):
    project("hidden", "@acme/hidden").does(writing["key"], "publish")
    npmrc = app.folder / ".npmrc"
    npmrc.write_text(npmrc.read_text().splitlines()[0])

    said = app.fails(writing["key"], "install", "@acme/hidden")

    assert "code E401" in said
    assert INVALID in said
    assert app.installed("@acme/hidden") is None


def test_a_tarball_needs_the_key_as_well(reading, writing, project, app):
    project("locked", "@acme/locked").does(writing["key"], "publish")
    app.does(reading["key"], "install", "@acme/locked")
    # `npm ci` asks for nothing but the tarballs that the lock file names.
    shutil.rmtree(app.home / "cache")

    assert "code E401" in app.fails(None, "ci")
    app.does(reading["key"], "ci")


def test_a_revoked_key_installs_nothing_a_second_later(gatelet, reading, writing, project, app):
    project("ended", "@acme/ended").does(writing["key"], "publish")
    app.does(reading["key"], "view", "@acme/ended")

    gatelet.keys("revoke", reading["id"])
    revoked = time.monotonic()
    begun = revoked
    while (done := app.run(reading["key"], "install", "@acme/ended")).returncode == 0:
        assert begun < revoked + 1, "installed with a key that was revoked a second before"
        shutil.rmtree(app.folder / "node_modules")
        shutil.rmtree(app.home / "cache")
        begun = time.monotonic()

    assert "code E401" in done.stderr
    assert INVALID in done.stderr


def test_logging_out_shows_the_key_to_nobody(registry, writing, app):
    npmrc = (app.folder / ".npmrc").read_text()

    assert "code E405" in app.fails(writing["key"], "logout")

    assert (app.folder / ".npmrc").read_text() == npmrc
    assert app.does(writing["key"], "whoami") == "release\n"
    assert writing["key"] not in registry.log()


def test_a_reading_key_audits(guard, tool, tmp_path):
    """Verdaccio would ask npmjs.org, so that this registry is none."""
    with Api(lambda request: (200, "application/json", b"{}")) as registry:
        gatelet = guard(registry)
        key = gatelet.keys("create", "--name", "laptops", "--scope", "packages:read")["key"]
        app = Project(tool("npm"), gatelet.proxy, tmp_path / "app", "app")
        packages = {"": {"name": "app"}, "node_modules/@acme/widget": {"version": "1.0.0"}}
        lock = {"name": "app", "lockfileVersion": 3, "requires": True, "packages": packages}
        (app.folder / "package-lock.json").write_text(json.dumps(lock))

        app.does(key, "audit")

        assert [each["target"] for each in registry.received] == ["/-/npm/v1/security/advisories/bulk"]
        assert registry.header("authorization") == []
        assert registry.header("x-auth-subject") == ["laptops"]
