"""Installs and builds whom gatelet is compared with, and tells their versions."""

import os
import re
import shutil
import subprocess
import sys

from servers import HERE, ROOT, Failure, located

TOOLS = ROOT / "target" / "tools"
INSTALLED = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "haproxy, splice": "haproxy",
    "envoy": "envoy",
    "on-redis": "redis",
}


def prepare(peers, gatelet, http2):
    """Gets everything that these peers need; quick where it is there."""
    os.environ["PATH"] = f"{TOOLS / 'bin'}:{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    sys.path.insert(0, str(TOOLS / "python"))
    wanted = {"nginx", "wrk", "python"} | {INSTALLED[peer] for peer in peers if peer in INSTALLED}
    if http2:
        wanted.add("nghttp")
    if "pingora" in peers:
        wanted.add("cmake")
    # What it prints is progress.
    done = subprocess.run([ROOT / "scripts" / "install-tools", *sorted(wanted)], stdout=sys.stderr)
    if done.returncode:
        raise Failure("not everything could be installed; a peer can be left out with --without")
    for crate in ("relay", "pingora"):
        if crate in peers:
            build(crate)
    if any(peer.startswith("gatelet") or peer == "on-redis" for peer in peers) and not os.access(gatelet, os.X_OK):
        raise Failure(f"{gatelet} is missing: cargo build --release, or name another with --gatelet")


def build(crate):
    if not shutil.which("cargo"):
        raise Failure(f"cargo is missing: https://rustup.rs, or leave it out with --without {crate}")
    target = ROOT / "target" / crate
    if not target.exists():
        print(f"building {crate}; Pingora takes some minutes" if crate == "pingora" else f"building {crate}",
              file=sys.stderr)
    built = subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--locked", "--target-dir", target,
         "--manifest-path", HERE / crate / "Cargo.toml"]
    )
    if built.returncode:
        raise Failure(f"{crate} does not build; it can be left out with --without {crate}")


def versions(peers, gatelet):
    """What each of them says that it is."""
    asked = {
        "gatelet": ([gatelet, "--version"], r"gatelet (\S+)"),
        "nginx": ([located("nginx"), "-v"], r"nginx/(\S+)"),
        "haproxy": (["haproxy", "-v"], r"version (\S+)"),
        "envoy": (["envoy", "--version"], r"/(\d+\.\d+\.\d+)/"),
        "on-redis": (["redis-server", "--version"], r"v=(\S+)"),
    }
    found = {}
    for peer in peers:
        if peer in asked:
            command, pattern = asked[peer]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            found["redis" if peer == "on-redis" else peer] = re.search(pattern, done.stdout).group(1)
    if "pingora" in peers:
        found["pingora"] = locked("pingora", "pingora-proxy")
    if "relay" in peers:
        found["relay"] = f"mio {locked('relay', 'mio')}"
    return found


def locked(crate, dependency):
    """The version of a dependency in a crate's lock file."""
    text = (HERE / crate / "Cargo.lock").read_text()
    return re.search(rf'name = "{dependency}"\nversion = "([^"]+)"', text).group(1)
