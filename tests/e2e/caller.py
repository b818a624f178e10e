"""A caller that knows nothing of cookies, tokens or retries: it sends what it is told and keeps what comes."""

import http.client
import json

from processes import BOUND

AUTH = "/api/v1/auth"
PORTFOLIO = "/api/v1/portfolio/positions"
FEED = "/api/v1/feed"


class Answer:
    """What came back for a request, and the request, for whoever has to read a failure."""

    def __init__(self, request, status, headers, text):
        self.request, self.status, self.headers, self.text = request, status, headers, text

    @classmethod
    def of_script(cls, noted):
        """An answer as the client scripts print it."""
        return cls(noted["request"], noted["status"], [tuple(pair) for pair in noted["headers"]], noted["text"])

    def __str__(self):
        lines = [f"{name}: {value}" for name, value in self.headers]
        return "\n".join([f"> {self.request}", f"< {self.status}", *(f"< {line}" for line in lines), "", self.text])

    @property
    def json(self):
        try:
            return json.loads(self.text)
        except ValueError:
            raise AssertionError(f"this is no JSON:\n{self}") from None

    def header(self, name):
        """The values of a header."""
        return [value for each, value in self.headers if each.lower() == name]

    def number(self, name):
        """The value of a header that is there once and is a number."""
        values = self.header(name)
        assert len(values) == 1 and values[0].isdecimal(), f"{name} is not one number:\n{self}"
        return int(values[0])

    def expect(self, status):
        """This answer, which has to have this status."""
        assert self.status == status, f"wanted {status}:\n{self}"
        return self

    def refused(self, status, code):
        """This answer, which has to be a problem with this status and code."""
        self.expect(status)
        assert self.header("content-type") == ["application/problem+json"], f"no problem:\n{self}"
        assert (self.json["code"], self.json["error"]) == (code, code), f"wanted {code}:\n{self}"
        if status == 401:
            assert self.header("www-authenticate")[0].startswith('Bearer realm="gatelet"'), f"no challenge:\n{self}"
        return self

    def uncached(self):
        """This answer, which holds a token, so that nobody on the way may keep it."""
        assert self.header("cache-control") == ["no-store"], f"may be cached:\n{self}"
        return self

    def cookie(self):
        """The value and the attributes of the one cookie that is set: None where none is."""
        cookies = self.header("set-cookie")
        if not cookies:
            return None
        assert len(cookies) == 1, f"more than one cookie:\n{self}"
        pair, *attributes = cookies[0].split("; ")
        name, value = pair.split("=", 1)
        assert name == "__Host-refresh", f"a cookie of another name:\n{self}"
        return value, {part.split("=")[0].lower(): part.partition("=")[2] for part in attributes}


class Caller:
    """Calls one server; every request is a connection of its own."""

    def __init__(self, address):
        self.host, self.port = address.rsplit(":", 1)

    def call(self, method, target, body=None, key=None, bearer=None, refresh=None, origin=None, headers=()):
        sent = dict(headers)
        if key:
            sent["x-api-key"] = key
        if bearer:
            sent["authorization"] = f"Bearer {bearer}"
        if refresh:
            sent["cookie"] = f"theme=dark; __Host-refresh={refresh}"
        if origin:
            sent["origin"] = origin
        if body is not None:
            body = json.dumps(body)
            sent["content-type"] = "application/json"
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=BOUND)
        try:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            request = f"{method} {target} {sent} {body or ''}"
            return Answer(request, answer.status, answer.getheaders(), answer.read().decode())
        finally:
            connection.close()

    def get(self, target, **options):
        return self.call("GET", target, **options)

    def auth(self, route, body=None, **options):
        """POSTs to one of gatelet's own routes."""
        return self.call("POST", AUTH + route, body, **options)
