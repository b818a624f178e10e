"""The image without a container engine: the build stage's commands in a clean copy, then the
binary in a root that holds only what the final stage copies."""

import json
import os
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from places import REPOSITORY
from processes import Gatelet

USER = 65532


def instructions():
    """The Dockerfile's instructions, a list for each stage."""
    text = (REPOSITORY / "Dockerfile").read_text()
    text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
    stages = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, rest = line.split(None, 1)
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest))
    return stages


def environment(stage):
    """What ENV says: NAME="value", several on a line, a quote in a value escaped."""
    said = [rest for name, rest in stage if name == "ENV"]
    pairs = [pair for line in said for pair in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line)]
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in pairs}


@pytest.fixture(scope="session")
def context():
    """A clean copy of what .dockerignore lets into the build, and nothing else."""
    copy = REPOSITORY / "target/image/src"
    shutil.rmtree(copy, ignore_errors=True)
    lines = (REPOSITORY / ".dockerignore").read_text().split("\n")
    patterns = [line for line in lines if line and not line.startswith("#")]
    # An allow-list of plain paths: nothing here needs docker's pattern language.
    assert patterns[0] == "*" and all(re.fullmatch(r"![\w./-]+", each) for each in patterns[1:])
    for path in (each[1:] for each in patterns[1:]):
        source, target = REPOSITORY / path, copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    return copy


@pytest.fixture(scope="session")
def built(context):
    """The context after every RUN of the build stage."""
    build, _ = instructions()
    # What was built there by an earlier run stays outside the copy; cargo checks what is stale.
    (context / "target").symlink_to(context.parent / "target")
    (context.parent / "target").mkdir(exist_ok=True)
    carried = {name: os.environ[name] for name in ["PATH", "HOME"]}
    for command in [rest for name, rest in build if name == "RUN"]:
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=context,
            env={**carried, **environment(build)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    return context


@pytest.fixture(scope="session")
def image(built, tmp_path_factory):
    """A root with what the final stage copies, and a configuration mounted."""
    _, final = instructions()
    assert final[0] == ("FROM", "scratch")
    root = tmp_path_factory.mktemp("image")
    copied = [rest.split()[-2:] for name, rest in final if name == "COPY"]
    # What the base image brings is not on this machine, and nothing here needs it.
    for source, target in [each for each in copied if each[0].startswith("/src/")]:
        source, target = built / Path(source).relative_to("/src"), root / target.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    mounted = root / "etc/gatelet"
    mounted.mkdir(parents=True)
    (mounted / "config.toml").write_text(CONFIG)
    for path in [root, root / "etc", mounted]:
        path.chmod(0o755)
    return root


CONFIG = """
[[upstreams]]
name = "api"
url = "{api}"

[[routes]]
prefix = "/"
require = ["api_key"]

[store]
kind = "embedded"
path = "/var/lib/gatelet"
"""


def inside(image, *command):
    """A command in the image's root, as its user where this machine lets us choose one."""
    if os.geteuid() == 0:
        os.chown(image / "var/lib/gatelet", USER, USER)
        return ["/usr/sbin/chroot", f"--userspec={USER}:{USER}", image, *command]
    return ["unshare", "--user", "--map-root-user", "chroot", image, *command]


def test_the_binary_is_static_and_small(image):
    binary = image / "gatelet"
    headers = subprocess.run(["readelf", "-ld", binary], capture_output=True, text=True, check=True).stdout

    assert "INTERP" not in headers and "NEEDED" not in headers
    assert binary.stat().st_size < 25 << 20


def test_the_image_serves_with_nothing_but_itself(image, api):
    _, final = instructions()
    said = dict(final)
    assert said["USER"] == f"{USER}:{USER}"
    command = json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"])
    assert command == ["/gatelet", "serve", "--config", "/etc/gatelet/config.toml"]
    addresses = environment(final)
    assert addresses == {"GATELET__LISTEN__PROXY": "[::]:8080", "GATELET__LISTEN__TELEMETRY": "[::]:9464"}
    # A name, not an address: the resolver has to work without the machine's libraries.
    port = api.url.rsplit(":", 1)[1]
    (image / "etc/hosts").write_text("127.0.0.1 portfolio-api\n")
    (image / "etc/gatelet/config.toml").write_text(CONFIG.replace("{api}", f"http://portfolio-api:{port}"))
    free = {name: value.rsplit(":", 1)[0] + ":0" for name, value in addresses.items()}

    gatelet = Gatelet(image / "gatelet", None, command=inside(image, *command), env=free)
    try:
        mint = inside(image, "/gatelet", "keys", "create", "--name", "me", "--json", "--config", command[-1])
        made = subprocess.run(mint, capture_output=True, text=True, env={}, timeout=20)
        assert made.returncode == 0, made.stderr
        request = urllib.request.Request(
            f"http://{gatelet.proxy}/", headers={"x-api-key": json.loads(made.stdout)["key"]}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://{gatelet.telemetry}/readyz", timeout=10) as answer:
            assert answer.status == 200
        if os.geteuid() == 0:
            status = Path(f"/proc/{gatelet.child.pid}/status").read_text()
            assert re.search(rf"(?m)^Uid:\s+{USER}\s", status)
    finally:
        assert gatelet.stop() == 0
    written = sorted(str(path.relative_to(image)) for path in image.rglob("*") if path.is_file())
    assert written[:3] == ["etc/gatelet/config.toml", "etc/hosts", "gatelet"]
    assert all(path.startswith("var/lib/gatelet/") for path in written[3:]) and len(written) > 3
