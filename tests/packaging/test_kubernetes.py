"""The manifests: against Kubernetes' own schemas, against each other, and against gatelet."""

import re
import subprocess

import kubernetes_validate
import pytest
import tomllib
import yaml

from places import REPOSITORY

FOLDER = REPOSITORY / "deploy/kubernetes"
MANIFESTS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(FOLDER.glob("*.yaml"))}
CORE = [name for name in MANIFESTS if name not in ("kustomization", "podmonitor")]


@pytest.fixture
def pod():
    return MANIFESTS["deployment"]["spec"]["template"]


@pytest.fixture
def sidecar(pod):
    (found,) = pod["spec"]["initContainers"]
    return found


@pytest.fixture
def config():
    return tomllib.loads(MANIFESTS["configmap"]["data"]["config.toml"])


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("name", CORE)
def test_core_kinds_fit_their_schema(name, version):
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_everything_is_applied():
    assert sorted(MANIFESTS["kustomization"]["resources"]) == sorted(f"{name}.yaml" for name in CORE)


def test_the_sidecar_is_a_native_one_and_may_do_nothing(pod, sidecar):
    assert sidecar["restartPolicy"] == "Always"
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in [sidecar, *pod["spec"]["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    user = re.search(r"(?m)^USER (\d+):(\d+)$", (REPOSITORY / "Dockerfile").read_text())
    assert user.groups() == ("65532", "65532")


def test_ports_agree(pod, sidecar, config):
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert ports == {"http": 8080, "metrics": 9464}
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
        assert sidecar[probe]["httpGet"]["port"] == "metrics"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert pod["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(ports["metrics"]),
        "prometheus.io/path": "/metrics",
    }
    (service,) = MANIFESTS["service"]["spec"]["ports"]
    assert service["targetPort"] == "http"
    # The listeners come from the image's environment, so that the file may not move them.
    assert "listen" not in config


def test_the_apis_own_port_is_closed(pod, config):
    (api,) = pod["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in api["env"]}
    assert environment == {"HOST": "127.0.0.1", "PORT": "3000"}
    assert config["upstreams"][0]["url"] == "http://127.0.0.1:3000"
    policy = MANIFESTS["networkpolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    opened = [(port["port"], "from" in rule) for rule in policy["ingress"] for port in rule["ports"]]
    assert opened == [(8080, False), (9464, True)]


def test_selectors_find_the_pod(pod):
    labels = pod["metadata"]["labels"]
    spec = {name: MANIFESTS[name]["spec"] for name in ["deployment", "service", "networkpolicy", "podmonitor"]}
    assert spec["deployment"]["selector"]["matchLabels"] == labels
    assert spec["service"]["selector"] == labels
    assert spec["networkpolicy"]["podSelector"]["matchLabels"] == labels
    assert spec["podmonitor"]["selector"]["matchLabels"] == labels


def test_volumes_are_what_the_configuration_names(pod, sidecar, config):
    sources = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounts = {mount["mountPath"]: sources[mount["name"]] for mount in sidecar["volumeMounts"]}
    assert mounts["/etc/gatelet"]["configMap"]["name"] == MANIFESTS["configmap"]["metadata"]["name"]
    keys = mounts[config["api_keys"]["directory"]]
    assert keys["secret"]["secretName"] == MANIFESTS["secret"]["metadata"]["name"]
    # A mount below another needs a folder that the outer, read-only one lacks.
    assert not any(a != b and a.startswith(b + "/") for a in mounts for b in mounts)
    # With subPath the kubelet would never update it.
    assert not any("subPath" in mount for mount in sidecar["volumeMounts"])


def test_the_pod_outlives_the_drain(pod, config):
    limits = config["limits"]
    drain = sum(int(limits[name].removesuffix("s")) for name in ["drain_delay", "shutdown_grace"])
    assert pod["spec"]["terminationGracePeriodSeconds"] > drain


def test_the_pod_monitor_scrapes_the_named_port(sidecar):
    monitor = MANIFESTS["podmonitor"]
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in sidecar["ports"]]
    # The rest of the operator's schema that is used: https://prometheus-operator.dev/docs/api-reference/api
    assert set(endpoint) <= {"port", "path", "interval"}
    assert re.fullmatch(r"\d+s", endpoint["interval"])
    assert set(monitor["spec"]) <= {"selector", "podMetricsEndpoints"}


def test_gatelet_takes_the_configuration_and_the_keys(program, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    for name, text in MANIFESTS["secret"]["stringData"].items():
        (keys / name).write_text(text)
    text = MANIFESTS["configmap"]["data"]["config.toml"]
    assert '"/etc/gatelet-keys"' in text
    file = tmp_path / "config.toml"
    file.write_text(text.replace('"/etc/gatelet-keys"', f'"{keys}"'))

    done = subprocess.run([program, "check", "--config", file], capture_output=True, text=True, timeout=20, env={})

    assert done.returncode == 0, done.stdout + done.stderr
