"""The manifests, each set a folder that is applied whole."""

import re

import pytest
import tomllib
import yaml

from cluster import PLAIN, REPLICAS, containers, mounts, read

README = (PLAIN / "README.md").read_text()


@pytest.mark.parametrize("folder", [PLAIN, REPLICAS], ids=lambda folder: folder.name)
def test_everything_is_applied(folder):
    # The operator's kind is one that not every cluster knows.
    files = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml", "podmonitor.yaml"}
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]

    assert sorted(applied) == sorted(files)


@pytest.mark.parametrize("folder", [PLAIN, REPLICAS], ids=lambda folder: folder.name)
def test_the_api_listens_where_gatelet_looks(folder):
    cluster = read(folder.glob("*.yaml"))
    (api,) = containers(cluster.gated, "api")

    assert {each["name"]: each["value"] for each in api["env"]} == {"HOST": "127.0.0.1", "PORT": "3000"}
    assert tomllib.loads(cluster.config)["upstreams"][0]["url"] == "http://127.0.0.1:3000"


@pytest.mark.parametrize("name", ["service.yaml", "networkpolicy.yaml", "podmonitor.yaml"])
def test_what_both_sets_have_is_the_same(name):
    assert (PLAIN / name).read_text() == (REPLICAS / name).read_text()


def test_the_password_is_the_secret_that_the_page_has_made():
    (made,) = re.findall(r"kubectl create secret generic (\S+) --from-literal=password=", README)
    cluster = read(REPLICAS.glob("*.yaml"))

    assert cluster.all("Secret") == []
    for workload in cluster.workloads:
        (container,) = [each for each in containers(workload) if each["name"] in ("gatelet", "valkey")]
        secrets = [each["secret"] for each in mounts(workload, container).values() if "secret" in each]
        assert [each["secretName"] for each in secrets] == [made]


def test_replicas_ask_the_server_that_is_there():
    cluster = read(REPLICAS.glob("*.yaml"))
    service = cluster.one("Service", "portfolio-api-valkey")
    (port,) = service["spec"]["ports"]

    assert tomllib.loads(cluster.config)["store"]["urls"] == [
        f"redis://{service['metadata']['name']}:{port['port']}"
    ]
