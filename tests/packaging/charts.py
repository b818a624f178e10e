"""Values that the chart is rendered with, a name for each set."""

SIDECAR = {"api": {"image": "ghcr.io/example/portfolio-api:1.0.0"}}
PASSWORD = {"passwordSecret": {"name": "store", "key": "pw"}}
ALONE = {
    "config": {
        "upstreams": [
            {"name": "api", "url": "http://portfolio-api:3000", "max_connections": 4096},
            {"name": "reports", "url": "http://reports:3000"},
        ],
        "routes": [
            {"prefix": "/", "upstream": "api", "require": {"any": ["api_key", "access_token"]}},
            {
                "prefix": "/reports",
                "upstream": "reports",
                "require": ["api_key"],
                "rate_limit": {"rate": "10/s", "burst": 20},
            },
        ],
        "cache": {"capacity": 100_000},
        "access_token": {
            "trusted": [
                {"issuer": "https://a.example/<a>&b", "audience": ["api"], "jwks_url": "https://a.example/jwks?a&b"},
                {"issuer": "https://b.example", "audience": ["api"], "jwks_url": "https://b.example/jwks"},
            ]
        },
    }
}


def on_redis(**redis):
    return {"kind": "redis", "redis": redis}


CHARTS = {
    "embedded": SIDECAR,
    "bundled": SIDECAR | {"replicas": 3, "store": on_redis(bundled={"enabled": True}, **PASSWORD)},
    "redis": SIDECAR | {"replicas": 3, "store": on_redis(urls=["redis://redis:6379"])},
    "sentinel": SIDECAR
    | {"replicas": 3, "store": on_redis(urls=["redis://a", "redis://b:26379"], sentinelMaster="mymaster", **PASSWORD)},
    "cluster": SIDECAR
    | {
        "replicas": 3,
        "store": on_redis(
            urls=["rediss://a:6379"], cluster=True, username="gatelet", caSecret={"name": "ca"}, **PASSWORD
        ),
    },
    "none": SIDECAR | {"replicas": 2, "store": {"kind": "none"}, "apiKeysSecret": "keys"},
    "alone": ALONE,
    "alone on redis": ALONE
    | {
        "replicas": None,
        "store": on_redis(bundled={"enabled": True, "storageClassName": "fast"}, **PASSWORD),
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"callers": [{"podSelector": {}}]},
        "serviceAccountName": "api",
        "env": [{"name": "GATELET__LOG__LEVEL", "value": "debug"}],
        "volumes": [{"name": "extra", "emptyDir": {}}],
        "volumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "imagePullSecrets": [{"name": "registry"}],
    },
}
