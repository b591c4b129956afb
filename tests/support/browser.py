"""A page in headless Chromium, through chromedriver: what it asks for and reports, how it looks, how long it takes.

python -m tests.support.browser PAGE.html [--png FILE] [--width 1000] [--height 1200] [--dark]
"""

import base64
import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@dataclasses.dataclass
class Flags:
    """Open a page, and print what the browser reports."""

    page: Annotated[Path, tyro.conf.Positional]
    png: Path | None = None
    width: int = 1000
    height: int = 1200
    dark: bool = False


class Browser:
    """A session of chromedriver's."""

    def __init__(self, port: int, width: int, height: int, dark: bool):
        self._url = f"http://localhost:{port}/session"
        options = {"binary": CHROMIUM, "args": ["--headless=new", "--no-sandbox", "--hide-scrollbars"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._url += "/" + self._post("", capabilities={"alwaysMatch": wanted})["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def _post(self, path: str, **body: object) -> dict:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())["value"]

    def devtools(self, command: str, **parameters: object) -> dict:
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def run(self, script: str) -> object:
        """What a script returns; the page's policy does not apply to it."""
        return self._post("/execute/sync", script=script, args=[])

    def open(self, page: Path) -> float:
        """Open a page and draw it; the seconds that it took."""
        start = time.monotonic()
        self._post("/url", url=page.resolve().as_uri())
        self.screenshot()
        return time.monotonic() - start

    def requests(self) -> list[str]:
        """What was asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._post("/se/log", type="performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def messages(self) -> list[str]:
        """What is on the console."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def browser(width: int = 1000, height: int = 1200, dark: bool = False) -> Iterator[Browser]:
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        session = None
        try:
            port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
            session = Browser(int(port), width, height, dark)
            yield session
        finally:
            if session:
                with contextlib.suppress(OSError):
                    session.devtools("Browser.close")
            driver.terminate()


def main(flags: Flags) -> int:
    with browser(flags.width, flags.height, flags.dark) as session:
        seconds = session.open(flags.page)
        requests, messages = session.requests(), session.messages()
        if flags.png:
            flags.png.write_bytes(session.screenshot())
    print(f"{seconds:.2f} s, {flags.page.stat().st_size:,} bytes")
    print("requests", requests, "\nconsole", messages)
    return bool(messages) or requests != [flags.page.resolve().as_uri()]


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))
