"""What would be applied to a cluster, as objects to ask: the manifests' files, and what Helm renders."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from places import REPOSITORY

PLAIN = REPOSITORY / "deploy/kubernetes"
REPLICAS = PLAIN / "replicas"
CHART = REPOSITORY / "deploy/helm/gatelet"

GATELET = 65532


@dataclass
class Cluster:
    """Objects that are applied together."""

    objects: list

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind, name=None):
        (found,) = [each for each in self.all(kind) if name in (None, each["metadata"]["name"])]
        return found

    @property
    def workloads(self):
        return self.all("Deployment") + self.all("StatefulSet")

    @property
    def gated(self):
        """The workload that gatelet is part of."""
        (found,) = [each for each in self.workloads if containers(each, "gatelet")]
        return found

    @property
    def gatelet(self):
        (found,) = containers(self.gated, "gatelet")
        return found

    @property
    def config(self):
        """The text of config.toml, from where the container reads it."""
        source = mounts(self.gated, self.gatelet)["/etc/gatelet"]
        return self.one("ConfigMap", source["configMap"]["name"])["data"]["config.toml"]

    def selected(self, labels):
        """The workloads whose pods have these labels."""
        return [each for each in self.workloads if labels.items() <= pod(each)["metadata"]["labels"].items()]

    def content(self, source):
        """The files of a volume; those of a Secret that users make are made up."""
        if "configMap" in source:
            return self.one("ConfigMap", source["configMap"]["name"])["data"]
        files = {}
        for name, items in secrets(source):
            here = [each for each in self.all("Secret") if each["metadata"]["name"] == name]
            if here:
                files |= here[0]["stringData"]
            else:
                names = [each["path"] for each in items] or [DEFAULT[source["name"]]]
                files |= {each: MADE_UP[each]() for each in names}
        return files

    def lay_out(self, folder, workload, container):
        """Writes a container's volumes below a folder; what rewrites paths that begin there."""
        mounted = mounts(workload, container)
        for path, source in mounted.items():
            place = folder / path.lstrip("/")
            place.mkdir(parents=True)
            mode = next((each["defaultMode"] for each in source.values() if "defaultMode" in each), 0o644)
            for name, text in self.content(source).items():
                (place / name).write_text(text)
                (place / name).chmod(mode)
        begins = "|".join(map(re.escape, mounted))
        return lambda text: re.sub(rf"(?<![\w/.-])({begins})(?=[/\"\s]|$)", rf"{folder}\1", text)


def pod(workload):
    return workload["spec"]["template"]


def containers(workload, name=None):
    spec = pod(workload)["spec"]
    every = spec.get("initContainers", []) + spec["containers"]
    return [each for each in every if name in (None, each["name"])]


def mounts(workload, container):
    """The sources of a container's volumes by where they are mounted."""
    claims = {each["metadata"]["name"]: {"claim": each} for each in workload["spec"].get("volumeClaimTemplates", [])}
    sources = claims | {each["name"]: each for each in pod(workload)["spec"]["volumes"]}
    return {each["mountPath"]: sources[each["name"]] for each in container.get("volumeMounts", [])}


def secrets(source):
    """The Secrets that a volume comes from, and which of their entries it shows; none named: all."""
    parts = [each["secret"] for each in source.get("projected", {}).get("sources", [])]
    named = [(each["name"], each["items"]) for each in parts]
    if "secret" in source:
        named.append((source["secret"]["secretName"], source["secret"].get("items", [])))
    return named


def read(files):
    """The objects in files; several may stand in one."""
    objects = [each for file in files for each in yaml.safe_load_all(Path(file).read_text())]
    return Cluster([each for each in objects if each["kind"] != "Kustomization"])


def authority():
    """A certificate of somebody who could vouch for a server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    now = datetime.now(timezone.utc)
    later = now + timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, later)
    signed = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


MADE_UP = {
    "password": lambda: "correct horse battery staple\n",
    "ca.crt": authority,
    "ci.toml": lambda: f'name = "ci"\nsha256 = "{hashlib.sha256(b"ci").hexdigest()}"\n',
}
# What a whole Secret shows, by the volume's name.
DEFAULT = {"password": "password", "keys": "ci.toml"}
