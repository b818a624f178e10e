"""The chart: what values do, and which are refused."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
import tomllib
import yaml

from charts import ALONE, CHARTS, SIDECAR, on_redis
from cluster import CHART, REPLICAS, containers, pod, read, secrets
from places import REPOSITORY

BUNDLED = CHARTS["bundled"]


def test_it_lints(helm, values_file):
    for values in CHARTS.values():
        status, printed, said = helm("lint", "--strict", CHART, "--values", values_file(values))
        assert status == 0, printed + said


def test_it_is_of_gatelets_own_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["package"]

    assert chart["appVersion"] == chart["version"] == package["version"]


def leaves(values, at=()):
    """The values that a user sets: maps with a shape of their own, down to what is not one."""
    for key, value in values.items():
        path = (*at, key)
        free = path[-1] in ("resources", "securityContext", "podAnnotations", "config")
        if isinstance(value, dict) and value and not free:
            yield from leaves(value, path)
        else:
            yield ".".join(path)


def test_the_page_has_a_line_for_every_value():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    cells = re.findall(r"(?m)^\| (`[^|]+) \|", (CHART / "README.md").read_text())
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]

    assert sorted(named) == sorted(leaves(values))


def test_the_schema_has_a_place_for_every_value():
    def compare(values, schema, at):
        if schema.get("additionalProperties") is not False:
            return
        assert values.keys() <= schema["properties"].keys(), at
        for key, value in values.items():
            below = schema["properties"][key]
            if isinstance(value, dict):
                assert below.get("type") == "object" or "$ref" in below, f"{at}.{key}"
                compare(value, below, f"{at}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


def test_config_has_gatelets_sections(program):
    printed = subprocess.run([program, "config", "schema"], capture_output=True, text=True, timeout=20, env={})
    sections = json.loads(printed.stdout)["properties"].keys()
    schema = json.loads((CHART / "values.schema.json").read_text())

    # Those two are the chart's affair.
    assert schema["properties"]["config"]["properties"].keys() == sections - {"listen", "store"}


def refused(reason, **values):
    return pytest.param(values, reason, id=reason)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        refused("property replica is not allowed", **SIDECAR, replica=1),
        refused("store: Additional property redi is not allowed", **SIDECAR, store={"redi": {}}),
        refused("store.redis: Additional property sentinel is not allowed", **SIDECAR, store=on_redis(sentinel="m")),
        refused("config: Additional property route is not allowed", **SIDECAR, config={"route": []}),
        refused("config: Additional property store is not allowed", **SIDECAR, config={"store": {}}),
        refused("config: Additional property listen is not allowed", **SIDECAR, config={"listen": {}}),
        refused("store.kind must be one of", **SIDECAR, store={"kind": "sqlite"}),
        refused("store.redis.urls.0: Does not match", **SIDECAR, store=on_redis(urls=["redis://user:secret@a"])),
        refused("set replicas to 1, or store.kind to redis", **SIDECAR, replicas=3),
        refused("an embedded store belongs to one pod", **SIDECAR, replicas=None),
        refused("nothing to guard: set api.image"),
        refused("no server: set store.redis.urls", **SIDECAR, store=on_redis()),
        refused("name a Secret in store.redis.password", **SIDECAR, store=on_redis(bundled={"enabled": True})),
        refused(
            "leave out store.redis.urls",
            **SIDECAR,
            store=on_redis(urls=["redis://a"], bundled={"enabled": True}, passwordSecret={"name": "a"}),
        ),
        refused("set store.kind to redis", **SIDECAR, store={"redis": {"urls": ["redis://a"]}}),
    ],
)
def test_what_was_not_meant_is_refused(helm, values_file, values, reason):
    status, printed, said = helm("template", "demo", CHART, "--values", values_file(values))

    assert status != 0 and printed == ""
    said = re.sub(r"(?m)^- ([\w.]+) must be", r"\1 must be", said.replace(": must be", " must be"))
    assert reason in said
    assert "secret@" not in said


def test_values_become_the_configuration(render):
    config = {name: tomllib.loads(render(values).config) for name, values in CHARTS.items()}

    password = {"password_file": "/etc/gatelet-store/password"}
    redis = {"kind": "redis", "key_prefix": "gatelet"}
    assert config["embedded"]["store"] == {"kind": "embedded", "path": "/var/lib/gatelet/store"}
    assert config["bundled"]["store"] == redis | password | {"urls": ["redis://demo-gatelet-valkey:6379"]}
    assert config["redis"]["store"] == redis | {"urls": ["redis://redis:6379"]}
    assert config["sentinel"]["store"] == redis | password | {
        "urls": ["redis://a", "redis://b:26379"],
        "sentinel_master": "mymaster",
    }
    assert config["cluster"]["store"] == redis | password | {
        "urls": ["rediss://a:6379"],
        "cluster": True,
        "username": "gatelet",
        "ca_file": "/etc/gatelet-store/ca.crt",
    }
    assert "store" not in config["none"]
    assert config["none"]["api_keys"] == {"directory": "/etc/gatelet-keys"}
    assert config["embedded"]["upstreams"] == [{"name": "api", "url": "http://127.0.0.1:3000"}]
    # All of it arrives, below what is there without saying.
    limits = {"drain_delay": "5s", "shutdown_grace": "20s"}
    alone = config["alone"]
    del alone["store"]
    assert alone == ALONE["config"] | {"limits": limits}


def test_every_mounted_secret_is_one_that_was_named(render):
    for values in CHARTS.values():
        cluster = render(values)
        sources = [each for workload in cluster.workloads for each in pod(workload)["spec"]["volumes"]]
        mounted = {name for source in sources for name, _ in secrets(source)}
        keys = {item["key"] for source in sources for _, items in secrets(source) for item in items}

        redis = values.get("store", {}).get("redis", {})
        named = {"store": "pw"} if "passwordSecret" in redis else {}
        named |= {"ca": "ca.crt"} if "caSecret" in redis else {}
        assert keys == set(named.values())
        assert mounted == named.keys() | ({"keys"} if "apiKeysSecret" in values else set())
        assert cluster.all("Secret") == []


def test_the_bundled_server_is_that_of_the_manifests(render):
    """But for names, labels and where the password comes from."""
    chart, plain = (
        each.one("StatefulSet") for each in [render(BUNDLED), read(REPLICAS.glob("*.yaml"))]
    )
    ours, theirs = (containers(each, "valkey") for each in [chart, plain])
    assert ours == theirs
    conf = [
        [line for line in each.one("ConfigMap", name)["data"]["valkey.conf"].splitlines() if line[0] != "#"]
        for each, name in [
            (render(BUNDLED), "demo-gatelet-valkey"),
            (read(REPLICAS.glob("*.yaml")), "portfolio-api-valkey"),
        ]
    ]
    assert conf[0] == conf[1]
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy noeviction"} <= set(conf[0])


def test_only_what_no_reload_reads_makes_new_pods(render):
    def template(**config):
        return pod(render(BUNDLED | {"config": config}).gated)

    before = template()
    assert template(routes=[{"prefix": "/other", "require": "nothing"}], cache={"max_staleness": "1m"}) == before
    for config in [
        {"cache": {"capacity": 7}},
        {"runtime": {"workers": 1}},
        {"log": {"format": "text"}},
        {"log": {"access": False}},
        {"api_keys": {"pepper_file": "/pepper"}},
    ]:
        assert template(**config) != before, config
    elsewhere = BUNDLED | {"store": on_redis(urls=["redis://a"], passwordSecret={"name": "store", "key": "pw"})}
    assert pod(render(elsewhere).gated) != before


def test_what_reloads_do_not_read_is_what_the_program_says(program):
    """The list in templates/_config.tpl beside the one in the source."""
    source = (REPOSITORY / "src/config/reload.rs").read_text()
    fixed = re.findall(r'\(\s*"([a-z_.]+)",\s+\w[^"]*!=', source)
    template = (CHART / "templates/_config.tpl").read_text()
    (line,) = re.findall(r"list \(include \"gatelet.store\" \.\) (.*?) \| toJson", template)
    sections = {"$config": "", "$keys": "api_keys.", "$cache": "cache.", "$log": "log."}
    words = [word.split(".") for word in line.replace("$config.runtime", "$config.runtime.workers").split()]
    covered = {sections[section] + ".".join(keys) for section, *keys in words}

    # Where it listens comes from the image.
    assert set(fixed) == covered | {"store", "listen.proxy", "listen.telemetry", "listen.tls"}


def test_the_notes_make_the_first_key_where_it_is(render, tmp_path):
    """Rendered as an object, since without a cluster Helm shows no notes."""
    copy = shutil.copytree(CHART, tmp_path / "gatelet")
    include = '{{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}'
    (copy / "templates/shown.yaml").write_text(f"kind: Notes\nmetadata: {{name: shown}}\ntext: {include}\n")
    for name, values in CHARTS.items():
        shown = render(values, copy)
        notes = shown.one("Notes")["text"]
        kind, workload = shown.gated["kind"].lower(), shown.gated["metadata"]["name"]
        asked = f"kubectl exec --namespace apis {kind}/{workload} --container gatelet -- \\\n    /gatelet keys create"
        assert (asked in notes) == (name != "none")
        assert ("kubectl create secret generic store --namespace apis" in notes) == ("bundled" in json.dumps(values))
        assert f"http://{shown.one('Service', workload)['metadata']['name']}.apis:80/" in notes


PAGE = (CHART / "README.md").read_text()


@pytest.mark.parametrize("values", [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)])
def test_what_the_page_shows_renders(render, values):
    cluster = render(values if "config" in values else SIDECAR | values)

    assert cluster.gatelet and values.keys() <= {"api", "config", "replicas", "store"}


def test_what_the_page_has_typed_installs(helm, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    typed = re.findall(r"(?m)^(helm install .*?[^\\])$", PAGE, re.S | re.M)
    for command in typed:
        _, _, *arguments = shlex.split(command.replace("\\\n", ""))
        status, _, said = helm("template", *arguments)
        assert status == 0, said
    assert len(typed) == 2


def test_the_page_tells_how_to_check_a_configuration(helm, render, values_file):
    """What stands behind the pipe takes the configuration out of its object."""
    (sed,) = re.findall(r"\| (sed '[^\n]+') > config.toml", PAGE)
    for values in CHARTS.values():
        arguments = ["--values", values_file(values), "--show-only", "templates/configmap.yaml"]
        _, printed, _ = helm("template", "demo", CHART, *arguments)
        done = subprocess.run(["sh", "-c", sed], input=printed, capture_output=True, text=True, check=True)
        assert tomllib.loads(done.stdout) == tomllib.loads(render(values).config)
