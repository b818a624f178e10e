"""What the suites in Python share: the built program, its process, and APIs for it to guard."""

import os
import shutil
from pathlib import Path

import pytest

from places import REPOSITORY
from processes import Api, Gatelet


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def program():
    """The built program; scripts/test names it."""
    path = Path(os.environ.get("GATELET", REPOSITORY / "target/debug/gatelet"))
    assert path.exists(), f"{path} is missing: run scripts/test, or cargo build"
    return path


@pytest.fixture(scope="session")
def tool():
    """Finds a tool that scripts/install-tools installs."""

    def find(name):
        path = shutil.which(name)
        assert path, f"{name} is missing: run scripts/install-tools"
        return path

    return find


@pytest.fixture
def api():
    """An API that remembers what it was sent."""
    with Api() as running:
        yield running


@pytest.fixture
def start(program, tmp_path):
    """Starts gatelet with a configuration; stops it when the test ends."""
    running = []

    def run(config, **options):
        file = tmp_path / "config.toml"
        file.write_text(config)
        running.append(Gatelet(program, file, **options))
        return running[-1]

    yield run
    for each in running:
        each.stop()
