"""Helm, and the chart as it renders with some values."""

import json
import subprocess

import pytest
import yaml

from cluster import CHART, Cluster


@pytest.fixture(scope="session")
def helm(tool, tmp_path_factory):
    """Runs Helm in a home of its own; what it printed, and what it said was wrong."""
    home = tmp_path_factory.mktemp("helm")

    def run(*arguments):
        command = [tool("helm"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={"HOME": str(home)})
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def values_file(tmp_path_factory):
    """Writes values where Helm reads them."""

    def write(values):
        file = tmp_path_factory.mktemp("values") / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    return write


@pytest.fixture(scope="session")
def render(helm, values_file):
    """The objects of a release with these values."""
    printed = {}

    def run(values, chart=CHART):
        asked = (json.dumps(values), chart)
        if asked not in printed:
            arguments = ["--namespace", "apis", "--values", values_file(values)]
            status, printed[asked], said = helm("template", "demo", chart, *arguments)
            assert status == 0, said
        return Cluster([each for each in yaml.safe_load_all(printed[asked]) if each])

    return run
