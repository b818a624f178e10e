"""Debian's Chromium without a screen, driven by the DevTools protocol over a pipe: no port, no package.

Every wait is for a condition and has a bound. Names resolve to this machine alone.
"""

import base64
import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
import threading

from processes import BOUND, eventually

FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    # Where /dev/shm is small, as in containers, tabs would crash.
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    # It has nobody to call, and nobody that it could find.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    # A tab in the background is as awake as the others.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--window-size=1280,1000",
]


# Asks a function of the test, which answers by calling `answered`.
ASK = """
(() => {
  const waiting = [];
  globalThis.ask = (name, ...parameters) =>
    new Promise((resolve, reject) => {
      const number = waiting.push({ resolve, reject }) - 1;
      globalThis[name](JSON.stringify([number, ...parameters]));
    });
  globalThis.answered = (number, { result, error }) =>
    error ? waiting[number].reject(new Error(error)) : waiting[number].resolve(result);
})();
"""

# Brings an element into view; where on the screen it is.
CENTRE = """
(selector) => {
  const element = document.querySelector(selector);
  element.scrollIntoView({ block: "center", behavior: "instant" });
  const { x, y, width, height } = element.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
}
"""


class Browser:
    """A browser with a profile of its own, empty at the start and gone with it."""

    def __init__(self, program, *more_flags):
        self.profile = tempfile.TemporaryDirectory(prefix="gatelet-chromium-", ignore_cleanup_errors=True)
        theirs_in, self.requests = map(out_of_the_way, os.pipe())
        answers, theirs_out = map(out_of_the_way, os.pipe())
        # Root has no sandbox.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        flags = [*FLAGS, *more_flags, f"--user-data-dir={self.profile.name}", *sandbox]
        # It reads descriptor 3 and writes descriptor 4.
        self.child = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "chromium", program, *flags, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs_in, theirs_out],
            env={**os.environ, "HOME": self.profile.name},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.lock = threading.Lock()
        self.last, self.answers, self.listeners, self.is_gone = 0, {}, {}, False
        self.reader = threading.Thread(target=self._read, args=[answers], daemon=True)
        self.reader.start()

    def _read(self, descriptor):
        pending = b""
        while piece := os.read(descriptor, 1 << 16):
            *whole, pending = (pending + piece).split(b"\0")
            for message in map(json.loads, whole):
                if "id" in message:
                    self.answers[message["id"]] = message
                elif listener := self.listeners.get(message.get("sessionId")):
                    listener(message["method"], message["params"])
        os.close(descriptor)
        self.is_gone = True

    def send(self, method, session=None, **parameters):
        """Sends a command, and returns the number by which it is answered."""
        with self.lock:
            self.last += 1
            command = {"id": self.last, "method": method, "params": parameters}
            if session:
                command["sessionId"] = session
            content = json.dumps(command).encode() + b"\0"
            while content:
                content = content[os.write(self.requests, content) :]
            return self.last

    def answer(self, number, what="an answer"):
        """What a command was answered."""
        eventually(f"{what} of the browser", lambda: number in self.answers or self.is_gone)
        assert number in self.answers, "the browser is gone"
        answer = self.answers.pop(number)
        assert "error" not in answer, f"{what}: {answer['error']}"
        return answer["result"]

    def call(self, method, session=None, **parameters):
        """Sends a command, and returns what it was answered."""
        return self.answer(self.send(method, session, **parameters), method)

    def open(self, url, before="", **functions):
        """A tab at this address.

        The script `before` runs before those of its pages; it may `await ask("name", …)`, which calls one of the
        functions of the test. Each returns `{"result": …}`, or `{"error": …}` to have that thrown.
        """
        return Tab(self, url, before, functions)

    def stop(self):
        """Ends the browser, and with it every tab."""
        # It may be gone already.
        with contextlib.suppress(BrokenPipeError):
            self.send("Browser.close")
        try:
            self.child.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(BOUND)
        os.close(self.requests)
        self.reader.join(BOUND)
        self.profile.cleanup()


class Tab:
    """A tab, what its pages said on the console, and what went over its wire."""

    def __init__(self, browser, url, before, functions):
        self.browser, self.functions = browser, functions
        self.console, self.sent, self.came = [], {}, {}
        # The status that each WebSocket was opened with: 101 over HTTP/1.1, 200 over HTTP/2.
        self.handshakes = []
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        browser.listeners[self.session] = self._hear
        for domain in ["Page", "Runtime", "Network", "Log"]:
            self.call(f"{domain}.enable")
        for name in functions:
            self.call("Runtime.addBinding", name=name)
        if before:
            self.call("Page.addScriptToEvaluateOnNewDocument", source=ASK + before)
        self.go(url)

    def _hear(self, event, told):
        if event == "Runtime.exceptionThrown":
            self.console.append(told["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif event == "Log.entryAdded":
            self.console.append(told["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.sent.setdefault(told["requestId"], {}).update(told["request"])
        elif event == "Network.requestWillBeSentExtraInfo":
            self.sent.setdefault(told["requestId"], {})["cookies"] = [
                each["cookie"]["name"] for each in told["associatedCookies"] if not each["blockedReasons"]
            ]
        elif event == "Network.responseReceivedExtraInfo":
            self.came[told["requestId"]] = told["statusCode"]
        elif event == "Network.webSocketHandshakeResponseReceived":
            self.handshakes.append(told["response"]["status"])
        elif event == "Runtime.bindingCalled":
            self._answer(told["name"], told["payload"])

    def _answer(self, name, payload):
        number, *parameters = json.loads(payload)
        try:
            answer = self.functions[name](*parameters)
        except AssertionError as error:
            answer = {"error": str(error)}
        # Without waiting: the answer to this would have to be read by who waits for it.
        self.browser.send("Runtime.evaluate", self.session, expression=f"answered({number}, {json.dumps(answer)})")

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def go(self, url):
        """Loads an address, and waits until it and its scripts were run."""
        assert "errorText" not in (gone := self.call("Page.navigate", url=url)), gone
        if url != "about:blank":
            self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def start(self, script):
        """Begins to evaluate an expression; the rest is `finish`."""
        return self.browser.send(
            "Runtime.evaluate",
            self.session,
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )

    def finish(self, number):
        """The value of an expression, when its promise is settled; it must not throw."""
        answer = self.browser.answer(number, "a script's end")
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def run(self, script):
        """The value of an expression, when its promise is settled; it must not throw."""
        return self.finish(self.start(script))

    def apply(self, function, *arguments):
        """What a function of JavaScript makes of these, when its promise is settled."""
        return self.run(f"({function.strip()})(...{json.dumps(arguments)})")

    def until(self, script):
        """Evaluates an expression until it is true, and returns what it was."""
        return eventually(f"{script}\n{self.text()}", lambda: self._try(script))

    def _try(self, script):
        # A page that is being left answers nothing.
        try:
            return self.run(script)
        except AssertionError as error:
            if "context" in str(error):
                return None
            raise

    def text(self):
        """What is to be read on the page."""
        return self._try("document.body?.innerText ?? ''") or ""

    def click(self, selector):
        """Clicks what is there, shown and not disabled, where it is on the screen."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"{found}?.checkVisibility() && !{found}.disabled")
        x, y = self.apply(CENTRE, selector)
        for kind in ["mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def cookies(self, url):
        """Every cookie that is sent to this address, with those that no script sees."""
        return self.call("Network.getCookies", urls=[url])["cookies"]

    def exchanges(self, path):
        """Of each request to this path: its method, the names of its cookies, and the status of the answer."""
        return [
            (request["method"], request.get("cookies", []), self.came.get(number))
            for number, request in list(self.sent.items())
            if request.get("url", "").split("?")[0].endswith(path)
        ]

    def screenshot(self, file):
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


def out_of_the_way(descriptor):
    """The same pipe under a number that is neither 3 nor 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
