"""A client of Marionette, the remote control in Mozilla's programs: JSON with a length before it."""
import base64
import json
import socket


class Marionette:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.settimeout(120)
        self.stream = self.sock.makefile("rb")
        self.count = 0
        self._read()  # the greeting
        self.command("WebDriver:NewSession", capabilities={})
        self.command("WebDriver:SetTimeouts", script=60000)
        self.command("Marionette:SetContext", value="chrome")
        self.command("WebDriver:SwitchToWindow", handle=self.windows()[0])

    def _read(self):
        length = b""
        while (c := self.stream.read(1)) != b":":
            if not c:
                raise ConnectionError("Marionette closed the connection")
            length += c
        return json.loads(self.stream.read(int(length)))

    def command(self, name, **parameters):
        self.count += 1
        b = json.dumps([0, self.count, name, parameters]).encode()
        self.sock.sendall(str(len(b)).encode() + b":" + b)
        _, _, error, value = self._read()
        if error:
            raise RuntimeError(f"{name}: {error['error']}: {error['message']}")
        return value

    def windows(self):
        return self.command("WebDriver:GetWindowHandles")

    def run(self, code, *args):
        """Runs the body of an asynchronous function with args and returns its value."""
        script = ("const done = arguments[arguments.length - 1];"
                  "(async args => {" + code + "})(Array.from(arguments).slice(0, -1))"
                  ".then(v => done({v}), e => done({e: e + '\\n' + e.stack}));")
        r = self.command("WebDriver:ExecuteAsyncScript", script=script, args=list(args), sandbox="system", newSandbox=False)["value"]
        if r.get("e"):
            raise RuntimeError(r["e"])
        return r.get("v")

    def screenshot(self, path):
        shot = self.command("WebDriver:TakeScreenshot", full=True, hash=False)
        with open(path, "wb") as f:
            f.write(base64.b64decode(shot["value"]))
