"""How long a proxy with 10,000 keys takes until it answers, and what it then holds in memory."""

import http.client
import time
from dataclasses import dataclass
from statistics import median

from keys import key
from servers import Failure

KEYS = 10_000


@dataclass(frozen=True)
class Start:
    """From the start of the process to its first 200, asked for every millisecond with the last of its keys."""

    name: str
    peers: tuple[str, ...]

    tls = False
    headline = "start_ms"
    columns = {"start_ms": ("ms to the first answer", 0), "rest_kib": ("KiB then", 0)}

    def measure(self, stage, names, options, progress):
        results = {}
        for name in names:
            progress(name)
            each = [self.once(stage, name) for _ in range(options.starts)]
            results[name] = {field: median(one[field] for one in each) for field in each[0]}
        return results

    def once(self, stage, name):
        with stage.fresh(name, keys=KEYS) as server:
            start = time.perf_counter()
            server.start()
            while not answers(server):
                server.check()
                if time.perf_counter() - start > 30:
                    raise Failure(f"{name} did not answer within 30 s")
                time.sleep(0.001)
            took = time.perf_counter() - start
            return {"start_ms": took * 1000, "rest_kib": server.memory()}


def answers(server):
    try:
        status, _ = server.answer("/portfolio", {"x-api-key": key(KEYS - 1)})
    except (OSError, http.client.HTTPException):
        return False
    if status not in (200, 503):
        raise Failure(f"{server.name} answered {status} at its start")
    return status == 200
