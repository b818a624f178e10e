"""Who is compared: how each proxy is configured with what it has to know, ready to be started."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from keys import key
from material import AUDIENCE, ISSUER, Material
from servers import ROOT, Failure, Server, free_port, located, written

PINGORA = ROOT / "target" / "pingora" / "release" / "pingora-peer"
RELAY = ROOT / "target" / "relay" / "release" / "relay"
ENVOY_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


@dataclass(frozen=True)
class Place:
    """Where a proxy is put, and what it is given: a folder of its own, cores, the API, whether it speaks TLS."""

    folder: Path
    cores: set[int]
    upstream: int
    material: Material
    tls: bool
    keys: int
    gatelet: Path
    # The port of a Redis server, for the one that keeps its store there.
    redis: int | None = None

    def fill(self, name, **values):
        material = self.material
        return written(
            self.folder, name, upstream=self.upstream, issuer=ISSUER, audience=AUDIENCE, jwks=material.jwks,
            public_key=material.public_key, certificate=material.certificate, private_key=material.private_key,
            **values,
        )

    def write(self, name, line):
        """A file with a line for each key, of which and its number `line` makes it."""
        path = self.folder / name
        path.write_text("".join(line(key(number), number) for number in range(self.keys)))
        return path


def nginx(place, name):
    place.write("keys.map", lambda key, _: f'"{key}" 1;\n')
    port = free_port()
    config = place.fill("nginx.conf", listen=port, tls="ssl http2" if place.tls else "")
    return Server(name, [located("nginx"), "-p", place.folder, "-c", config], port, place.cores, place.tls)


def haproxy(place, name, splice=""):
    place.write("keys.map", lambda key, number: f"{key} key-{number}\n")
    port = free_port()
    tls = f"ssl crt {place.material.certificate_and_key} alpn h2,http/1.1" if place.tls else ""
    config = place.fill("haproxy.cfg", listen=port, tls=tls, splice=splice)
    return Server(name, [located("haproxy"), "-db", "-f", config], port, place.cores, place.tls)


def haproxy_splicing(place, name):
    return haproxy(place, name, "option splice-request\n    option splice-response")


def envoy(place, name):
    port = free_port()
    credentials = [{"key": key(number), "client": f"key-{number}"} for number in range(place.keys)]
    socket = "null"
    if place.tls:
        pair = {
            "certificate_chain": {"filename": str(place.material.certificate)},
            "private_key": {"filename": str(place.material.private_key)},
        }
        context = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]}
        socket = json.dumps({"name": "tls", "typed_config": {"@type": ENVOY_TLS, "common_tls_context": context}})
    config = place.fill(
        "envoy.yaml", listen=port, transport_socket=socket, credentials=json.dumps(credentials)
    )
    command = [located("envoy"), "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return Server(name, command, port, place.cores, place.tls)


def pingora(place, name):
    keys = place.write("keys", lambda key, number: f"{key} key-{number}\n")
    port = free_port()
    command = [PINGORA, f"127.0.0.1:{port}", f"127.0.0.1:{place.upstream}", keys]
    if place.tls:
        command += [place.material.certificate, place.material.private_key]
    return Server(name, command, port, place.cores, place.tls)


def relay(place, name):
    port = free_port()
    return Server(name, [RELAY, f"127.0.0.1:{port}", f"127.0.0.1:{place.upstream}"], port, place.cores)


def gatelet(place, name, access=False, workers=1):
    port = free_port()
    tls = ""
    if place.tls:
        tls = f'[listen.tls]\ncertificate = "{place.material.certificate}"\n'
        tls += f'private_key = "{place.material.private_key}"'
    store = f'kind = "embedded"\npath = "{place.folder}/store"'
    if place.redis:
        store = f'kind = "redis"\nurls = ["redis://127.0.0.1:{place.redis}"]'
    config = place.fill(
        "gatelet.toml", listen=port, telemetry=free_port(), tls=tls, store=store, access=str(access).lower(),
        workers=workers,
    )
    keys = place.write(
        "keys.ndjson", lambda key, number: json.dumps({"name": f"key-{number}", "key": key}) + "\n"
    )
    imported = subprocess.run(
        [place.gatelet, "keys", "import", keys, "--config", config], stdout=subprocess.DEVNULL
    )
    if imported.returncode:
        raise Failure(f"gatelet keys import ended with status {imported.returncode}")
    return Server(name, [place.gatelet, "serve", "--config", config], port, place.cores, place.tls)


def gatelet_logging(place, name):
    return gatelet(place, name, access=True)


def gatelet_on_two(place, name):
    return gatelet(place, name, workers=2)


GATELETS = (gatelet, gatelet_logging, gatelet_on_two)


# By the names that are printed. `on-redis` is gatelet with a store on a Redis server.
PEERS = {
    "gatelet": gatelet,
    "nginx": nginx,
    "haproxy": haproxy,
    "envoy": envoy,
    "pingora": pingora,
    "relay": relay,
    "gatelet, log on": gatelet_logging,
    "gatelet, 2 workers": gatelet_on_two,
    "on-redis": gatelet,
    "haproxy, splice": haproxy_splicing,
}


def upstream(folder, cores):
    """The API: nginx, with 140 bytes for whoever asks and bodies of 1 MiB."""
    port = free_port()
    (folder / "bulk").mkdir()
    (folder / "bulk" / "down").write_bytes(bytes(1024 * 1024))
    config = written(folder, "upstream.conf", listen=port)
    return Server("upstream", [located("nginx"), "-p", folder, "-c", config], port, cores)


def redis(folder, cores):
    """A server that a store is kept on, as one would be run."""
    port = free_port()
    command = [located("redis-server"), "--port", port, "--bind", "127.0.0.1", "--dir", folder,
               "--save", "", "--appendonly", "yes", "--loglevel", "warning"]
    return Server("redis", command, port, cores)
