"""The proxies that gatelet stands behind or in front of: nginx, HAProxy and Envoy, as they are configured in the field.

Each listens on one address and has a place for WebSockets, below `/sockets`, and one for all else.
"""

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from processes import Process, eventually, free_address

PREFIX = "type.googleapis.com/envoy."

# Where the neighbour is at home; callers come from another address, so that both are told apart.
HERE = "127.0.0.1"
CALLER = "127.0.0.9"


@dataclass
class Place:
    """Where requests go: an address, what it speaks, and who vouches for it, if it speaks TLS."""

    address: str
    http2: bool = False
    trusted: Path | None = None


@dataclass
class Plan:
    """What a neighbour does.

    `certificate` is shown to callers; an edge tells who its callers are; an nginx lets a connection go after so
    many requests.
    """

    api: Place
    sockets: Place
    certificate: object = None
    http2: bool = False
    is_edge: bool = False
    requests: int = 1000


class Neighbour:
    """A proxy that runs."""

    def __init__(self, tool, folder, plan):
        self.folder, self.plan, self.address = folder, plan, free_address()
        self.process = Process(self.command(tool), cwd=folder)
        try:
            eventually(f"{type(self).__name__} listens", self.listens)
        except BaseException:
            self.stop()
            raise

    def listens(self):
        assert self.process.child.poll() is None, self.process.output
        with socket.socket() as probe:
            return probe.connect_ex((HERE, int(self.address.rsplit(":", 1)[1]))) == 0

    def file(self, name, content):
        path = self.folder / name
        path.write_text(content)
        return path

    def stop(self):
        self.process.stop()


class Nginx(Neighbour):
    """Speaks HTTP/2 to callers, and to others by its module for gRPC, which knows no WebSockets."""

    CONFIG = """
daemon off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_requests {requests};
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_buffering off;
    upstream api {{ server {api.address}; keepalive 8; }}
    upstream sockets {{ server {sockets.address}; }}
    server {{
        listen {address}{listens};
        {certificate}
        location / {{ {api_place} }}
        location /sockets {{
            {sockets_place}
            proxy_set_header connection upgrade;
            proxy_set_header upgrade websocket;
        }}
    }}
}}
"""

    def command(self, tool):
        plan, certificate = self.plan, ""
        listens = (" ssl" if plan.certificate else "") + (" http2" if plan.http2 else "")
        if plan.certificate:
            certificate = f"ssl_certificate {plan.certificate.chain}; ssl_certificate_key {plan.certificate.key};"
        known = {
            "requests": plan.requests,
            "certificate": certificate,
            "api_place": self.place("api", plan.api),
            "sockets_place": self.place("sockets", plan.sockets),
        }
        config = self.CONFIG.format(
            address=self.address, listens=listens, api=plan.api, sockets=plan.sockets, **known
        )
        return [tool("nginx"), "-p", self.folder, "-e", "stderr", "-c", self.file("nginx.conf", config)]

    def place(self, name, place):
        module = "grpc" if place.http2 else "proxy"
        scheme = {"grpc": "grpc", "proxy": "http"}[module] + ("s" if place.trusted else "")
        lines = [f"{module}_pass {scheme}://{name};", f"{module}_set_header host $http_host;"]
        if not place.http2:
            lines.append('proxy_set_header connection "";')
        if place.trusted:
            lines.append(f"{module}_ssl_trusted_certificate {place.trusted}; {module}_ssl_verify on;")
            lines.append(f"{module}_ssl_name localhost;")
        if self.plan.is_edge:
            lines.append(f"{module}_set_header x-forwarded-for $proxy_add_x_forwarded_for;")
            lines.append(f"{module}_set_header x-forwarded-proto $scheme;")
        return " ".join(lines)


class HAProxy(Neighbour):
    """Speaks everything to everybody, WebSockets over HTTP/2 included."""

    CONFIG = """
global
    maxconn 512
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 30s
    # As many as there are requests at once would each open a connection of their own.
    http-reuse always
    default-server maxconn 64
frontend callers
    bind {address}{listens}
    {edge}
    use_backend sockets if {{ path_beg /sockets }}
    default_backend api
backend api
    server api {api.address}{api_speaks}
backend sockets
    server sockets {sockets.address}{sockets_speaks}
"""

    def command(self, tool):
        plan, listens, edge = self.plan, "", ""
        if plan.certificate:
            listens = f" ssl crt {plan.certificate.both} alpn {'h2,' if plan.http2 else ''}http/1.1"
        if plan.is_edge:
            edge = "option forwardfor\n    http-request set-header x-forwarded-proto https"
        config = self.CONFIG.format(
            address=self.address,
            listens=listens,
            edge=edge,
            api=plan.api,
            sockets=plan.sockets,
            api_speaks=self.speaks(plan.api),
            sockets_speaks=self.speaks(plan.sockets),
        )
        return [tool("haproxy"), "-db", "-f", self.file("haproxy.cfg", config)]

    @staticmethod
    def speaks(place):
        if place.trusted:
            protocol = "h2" if place.http2 else "http/1.1"
            return f" ssl verify required verifyhost localhost ca-file {place.trusted} alpn {protocol}"
        return " proto h2" if place.http2 else ""


class HAProxyTcp(HAProxy):
    """Hands on bytes, TLS and all, and knows nothing of requests."""

    CONFIG = """
global
    maxconn 512
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen bytes
    bind {address}
    server api {api.address}
"""


class Envoy(Neighbour):
    """Speaks everything to everybody once it is told to; trailers and WebSockets, too."""

    def command(self, tool):
        config = {
            "static_resources": {
                "listeners": [self.listener()],
                "clusters": [self.cluster("api", self.plan.api), self.cluster("sockets", self.plan.sockets)],
            }
        }
        file = self.file("envoy.json", json.dumps(config))
        return [tool("envoy"), "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]

    def listener(self):
        plan = self.plan
        routes = [
            {"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "0s"}}
            for prefix, cluster in [("/sockets", "sockets"), ("/", "api")]
        ]
        told = [
            {"header": {"key": "x-forwarded-for", "value": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}},
            {
                "header": {"key": "x-forwarded-proto", "value": "https"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            },
        ]
        manager = {
            "@type": PREFIX + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "callers",
            # By itself it would put the machine's own address in place of a caller's on loopback.
            "skip_xff_append": True,
            "http_protocol_options": {"enable_trailers": True},
            "http2_protocol_options": {"allow_connect": True},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
                "request_headers_to_add": told if plan.is_edge else [],
            },
            "http_filters": [
                {
                    "name": "router",
                    "typed_config": {"@type": PREFIX + "extensions.filters.http.router.v3.Router"},
                }
            ],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if plan.certificate:
            chain["transport_socket"] = {
                "name": "tls",
                "typed_config": {
                    "@type": PREFIX + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["h2", "http/1.1"] if plan.http2 else ["http/1.1"],
                        "tls_certificates": [
                            {
                                "certificate_chain": {"filename": str(plan.certificate.chain)},
                                "private_key": {"filename": str(plan.certificate.key)},
                            }
                        ],
                    },
                },
            }
        return {"address": address_of(self.address), "filter_chains": [chain]}

    @staticmethod
    def cluster(name, place):
        options = {"http_protocol_options": {"enable_trailers": True}}
        if place.http2:
            options = {"http2_protocol_options": {"allow_connect": True}}
        made = {
            "name": name,
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address_of(place.address)}}]}],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": PREFIX + "extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": options,
                }
            },
        }
        if place.trusted:
            made["transport_socket"] = {
                "name": "tls",
                "typed_config": {
                    "@type": PREFIX + "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "localhost",
                    "common_tls_context": {
                        "alpn_protocols": ["h2" if place.http2 else "http/1.1"],
                        "validation_context": {"trusted_ca": {"filename": str(place.trusted)}},
                    },
                },
            }
        return made


def address_of(address):
    host, port = address.rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}
