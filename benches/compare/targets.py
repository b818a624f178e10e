"""What the figures are held against, and whether they hold."""

from dataclasses import dataclass

from summary import spread


@dataclass(frozen=True)
class Figure:
    """One proxy's figure in one scenario."""

    scenario: str
    peer: str
    field: str = "cpu_us"

    def rounds(self, measured):
        """Its value in every round; nothing where it was not measured."""
        return [each[self.field] for each in measured.get(self.scenario, {}).get(self.peer, []) if self.field in each]


@dataclass(frozen=True)
class Target:
    """At most `bound` times the least of the others' figures, round by round; without others: at most `bound`."""

    what: str
    figure: Figure
    bound: float
    others: tuple[Figure, ...] = ()
    unit: str = "×"

    def judged(self, measured):
        """The median with its spread and whether it holds; None where something of it was not measured."""
        rounds = self.figure.rounds(measured)
        against = [other.rounds(measured) for other in self.others]
        if not rounds or not all(against):
            return None
        if against:
            values = [one / min(others) for one, *others in zip(rounds, *against)]
        else:
            values = rounds
        found = spread(values)
        return {"what": self.what, "bound": self.bound, "unit": self.unit, **found,
                "holds": found["median"] <= self.bound}


def against(scenario, *bounds, field="cpu_us", what=None):
    """Targets for gatelet's figure in a scenario, each a peer and how many times its figure at most."""
    return tuple(
        Target(f"{what or scenario} ÷ {peer}", Figure(scenario, "gatelet", field), bound,
               (Figure(scenario, peer, field),))
        for peer, bound in bounds
    )


def itself(scenario, other, bound):
    """A target for gatelet's figure in one scenario against its own in another, which was measured beside it."""
    return Target(f"{scenario} ÷ {other}", Figure(scenario, "gatelet"), bound,
                  (Figure(scenario, "gatelet", "beside_us"),))


def at_most(what, scenario, field, bound, unit):
    return Target(what, Figure(scenario, "gatelet", field), bound, unit=unit)


TARGETS = (
    *against("cached key", ("nginx", 0.90), ("haproxy", 0.90), ("pingora", 0.60), ("envoy", 0.33), ("relay", 1.30)),
    Target("cached key, access log on ÷ off", Figure("cached key", "gatelet, log on"), 1.10,
           (Figure("cached key", "gatelet"),)),
    itself("key and token", "cached key", 1.10),
    *against("key and token", ("envoy", 0.33), ("haproxy", 0.18)),
    itself("5,000 tokens", "key and token", 1.15),
    *against("unknown key", ("nginx", 1.20)),
    Target("TLS ÷ the better of nginx and haproxy", Figure("TLS", "gatelet"), 1.00,
           (Figure("TLS", "nginx"), Figure("TLS", "haproxy"))),
    *against("full handshake", ("nginx", 1.00), ("envoy", 1.15)),
    *against("resumed handshake", ("nginx", 1.00), ("envoy", 1.15)),
    *against("HTTP/2", ("envoy", 0.35), ("pingora", 0.70), ("haproxy", 1.20)),
    itself("HTTP/2", "TLS", 1.00),
    *against("1 MiB down", ("nginx", 1.10)),
    *against("1 MiB up", ("nginx", 1.10)),
    *against("latency", ("nginx", 1.00), field="added_us", what="latency over the relay"),
    at_most("memory with 10,000 keys", "start", "rest_kib", 20_000_000 / 1024, "KiB"),
    at_most("an idle connection", "idle connection", "connection_kib", 12, "KiB"),
    at_most("an idle connection over TLS", "idle over TLS", "connection_kib", 20, "KiB"),
    at_most("start with 10,000 keys", "start", "start_ms", 60, "ms"),
)


def judged(measured):
    return [found for target in TARGETS if (found := target.judged(measured))]
