"""A command that serves, as a process: started, asked over HTTP, and ended in any way."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
URL = re.compile(r"http://\S+")


class Server:
    """A process whose first URL on stdout or stderr is where it answers.

    Attributes:
      process: of subprocess.
      url: without a path and a token.
      token: of the URL, if it has one.
    """

    def __init__(self, *words, env=None, wait_s=120.0, code=None):
        """Start `jaxgpt WORDS`, or a Python program; it shares the tests' cache, and prints to one pipe."""
        command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "jaxgpt", *map(str, words)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        end = time.monotonic() + wait_s
        while not (found := URL.search(self.output)):
            line = self.process.stdout.readline()
            self.output += line
            if not line or time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"the server did not start:\n{self.output}{self.process.stdout.read()}")
        self.urls = URL.findall(self.output)
        self.url, _, query = found[0].partition("?")
        self.url = self.url.rstrip("/")
        self.token = query.removeprefix("token=")

    def ask(self, method, path, body=None, headers=(), timeout=60):
        """One request; returns the status, the headers and the body's bytes. `body` is sent as JSON, but bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def stop(self, signum=signal.SIGTERM, wait_s=30.0):
        """End it by a signal; returns its exit code, and keeps the rest of its output."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signum)
        self.process.wait(wait_s)
        self.output += self.process.stdout.read()  # communicate() would lose what was read with the last line
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.process.stdout.close()
