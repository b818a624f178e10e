"""What the manifests and the chart have in common: each set of objects against Kubernetes' own schemas,
against itself, and against gatelet."""

import re
import subprocess

import kubernetes_validate
import pytest
import tomllib

from charts import CHARTS
from cluster import GATELET, PLAIN, REPLICAS, containers, mounts, pod, read
from places import REPOSITORY


@pytest.fixture(scope="session", params=["plain", "replicas", *CHARTS])
def cluster(request, render):
    if request.param in CHARTS:
        return render(CHARTS[request.param])
    return read(sorted({"plain": PLAIN, "replicas": REPLICAS}[request.param].glob("*.yaml")))


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_core_kinds_fit_their_schema(cluster, version):
    core = [each for each in cluster.objects if each["kind"] != "PodMonitor"]
    for each in core:
        kubernetes_validate.validate(each, version, strict=True)
    assert len(core) >= 4


def test_no_two_objects_are_one(cluster):
    names = [(each["kind"], each["metadata"]["name"]) for each in cluster.objects]

    assert len(set(names)) == len(names)


def test_every_pod_may_do_nothing(cluster):
    """As Kubernetes' own standard "restricted" has it, and a root filesystem that is only read besides."""
    for workload in cluster.workloads:
        spec = pod(workload)["spec"]
        security = dict(spec["securityContext"])
        security.pop("fsGroupChangePolicy", None)
        assert security == {
            "runAsNonRoot": True,
            "runAsUser": GATELET,
            "runAsGroup": GATELET,
            "fsGroup": GATELET,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert spec["automountServiceAccountToken"] is False
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    user = re.search(r"(?m)^USER (\d+):(\d+)$", (REPOSITORY / "Dockerfile").read_text())
    assert user.groups() == (str(GATELET), str(GATELET))


def test_before_an_api_in_its_pod_gatelet_is_a_native_sidecar(cluster):
    spec = pod(cluster.gated)["spec"]
    if containers(cluster.gated, "api"):
        assert [each["name"] for each in spec["initContainers"]] == ["gatelet"]
        assert cluster.gatelet["restartPolicy"] == "Always"
    else:
        assert [each["name"] for each in spec["containers"]] == ["gatelet"]
        assert "initContainers" not in spec and "restartPolicy" not in cluster.gatelet


def test_ports_and_probes_agree(cluster):
    gatelet = cluster.gatelet
    assert {port["name"]: port["containerPort"] for port in gatelet["ports"]} == {"http": 8080, "metrics": 9464}
    probes = {name: gatelet[name]["httpGet"] for name in ["startupProbe", "readinessProbe", "livenessProbe"]}
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert probes["readinessProbe"]["path"] == "/readyz"
    assert probes["livenessProbe"]["path"] == "/livez"
    # Where a store can be away, waiting for it must not end in a restart.
    away = 'kind = "redis"' in re.sub(" +", " ", cluster.config)
    assert probes["startupProbe"]["path"] == "/livez" or not away
    assert pod(cluster.gated)["metadata"]["annotations"].items() >= {
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "9464"),
        ("prometheus.io/path", "/metrics"),
    }
    # The listeners come from the image's environment, so that the file may not move them.
    assert "listen" not in tomllib.loads(cluster.config)
    for service in cluster.all("Service"):
        (workload,) = cluster.selected(service["spec"]["selector"])
        names = {port["name"] for each in containers(workload) for port in each.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_selectors_find_one_workload_each(cluster):
    for workload in cluster.workloads:
        labels = workload["spec"]["selector"]["matchLabels"]
        assert cluster.selected(labels) == [workload]
        for spread in pod(workload)["spec"].get("topologySpreadConstraints", []):
            assert spread["labelSelector"]["matchLabels"] == labels
        if workload["kind"] == "StatefulSet":
            service = cluster.one("Service", workload["spec"]["serviceName"])
            assert service["spec"]["selector"] == labels
    gated = cluster.gated["spec"]["selector"]["matchLabels"]
    for kind in ["PodDisruptionBudget", "PodMonitor"]:
        for each in cluster.all(kind):
            assert each["spec"]["selector"]["matchLabels"] == gated
    guarded = [cluster.selected(each["spec"]["podSelector"]["matchLabels"]) for each in cluster.all("NetworkPolicy")]
    assert sorted(each["metadata"]["name"] for (each,) in guarded) == sorted(
        each["metadata"]["name"] for each in cluster.workloads
    )


def test_every_port_is_closed_but_those_that_are_meant(cluster):
    gated = cluster.gated["spec"]["selector"]["matchLabels"]
    for policy in [each["spec"] for each in cluster.all("NetworkPolicy")]:
        opened = [(port["port"], "from" in rule) for rule in policy["ingress"] for port in rule["ports"]]
        if policy["podSelector"]["matchLabels"] == gated:
            assert policy["policyTypes"] == ["Ingress"]
            assert [port for port, _ in opened] == [8080, 9464] and opened[1] == (9464, True)
        else:
            (rule,) = policy["ingress"]
            assert opened == [(6379, True)]
            assert rule["from"] == [{"podSelector": {"matchLabels": gated}}]
            # It reaches nobody.
            assert policy["policyTypes"] == ["Ingress", "Egress"] and "egress" not in policy


def test_the_apis_own_port_is_not_reached(cluster):
    urls = [each["url"] for each in tomllib.loads(cluster.config)["upstreams"]]
    loopback = [url.startswith("http://127.0.0.1:") for url in urls]

    assert loopback == [bool(containers(cluster.gated, "api"))] * len(urls)
    for api in containers(cluster.gated, "api"):
        assert "ports" not in api


def test_mounted_files_may_change_and_do_not_hide_each_other(cluster):
    for workload in cluster.workloads:
        for container in containers(workload):
            paths = mounts(workload, container)
            # A mount below another needs a folder that the outer, read-only one lacks.
            assert not any(a != b and a.startswith(b + "/") for a in paths for b in paths)
            # With subPath the kubelet would never update it.
            assert not any("subPath" in each for each in container.get("volumeMounts", []))
            for source in paths.values():
                cluster.content(source)


def test_the_pod_outlives_the_drain(cluster):
    limits = tomllib.loads(cluster.config)["limits"]
    drain = sum(int(limits[name].removesuffix("s")) for name in ["drain_delay", "shutdown_grace"])

    assert drain >= 5
    assert pod(cluster.gated)["spec"]["terminationGracePeriodSeconds"] > drain


def test_replicas_go_together_with_the_store(cluster):
    store = tomllib.loads(cluster.config).get("store", {}).get("kind")
    spec = cluster.gated["spec"]
    if store == "embedded":
        assert cluster.gated["kind"] == "StatefulSet" and spec["replicas"] == 1
        (data,) = spec["volumeClaimTemplates"]
        assert mounts(cluster.gated, cluster.gatelet)["/var/lib/gatelet"] == {"claim": data}
    else:
        assert cluster.gated["kind"] == "Deployment" and spec.get("replicas", 2) > 1
    if store == "redis":
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert cluster.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_store_is_for_gatelet_alone(cluster):
    """The API's container sees neither the password nor what is kept."""
    shared = {"/etc/gatelet-store", "/var/lib/gatelet", "/etc/gatelet-keys"}
    for api in containers(cluster.gated, "api"):
        assert not shared & mounts(cluster.gated, api).keys()


def test_the_pod_monitor_scrapes_the_named_port(cluster):
    for monitor in cluster.all("PodMonitor"):
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == "metrics"
        # The rest of the operator's schema that is used: https://prometheus-operator.dev/docs/api-reference/api
        assert set(endpoint) <= {"port", "path", "interval"}
        assert re.fullmatch(r"\d+s", endpoint["interval"])
        assert set(monitor["spec"]) <= {"selector", "podMetricsEndpoints"}


def test_gatelet_takes_the_configuration_and_what_it_names(cluster, program, tmp_path):
    moved = cluster.lay_out(tmp_path, cluster.gated, cluster.gatelet)
    file = tmp_path / "etc/gatelet/config.toml"
    file.write_text(moved(file.read_text()))

    done = subprocess.run([program, "check", "--config", file], capture_output=True, text=True, timeout=20, env={})

    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    config = tomllib.loads(file.read_text())
    sections = [config.get("store", {}), config.get("api_keys", {})]
    named = [each[key] for each in sections for key in ["path", "directory", "password_file", "ca_file"] if key in each]
    assert all(each.startswith(str(tmp_path)) for each in named)
