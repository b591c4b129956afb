"""A page in headless Chromium, by selenium: what it asks for and reports, how it looks, how long it takes.

python -m tests.support.browser PAGE.html [--png FILE] [--width 1000] [--height 1200] [--dark]
"""

import base64
import contextlib
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
REQUEST = "Network.requestWillBeSent"


@dataclasses.dataclass
class Flags:
    """Open a page, and print what the browser reports."""

    page: Annotated[Path, tyro.conf.Positional]
    png: Path | None = None
    width: int = 1000
    height: int = 1200
    dark: bool = False


class Browser:
    """A window.

    Attributes:
      driver: selenium's.
    """

    def __init__(self, driver: Any, width: int, height: int, dark: bool):
        self.driver = driver
        self.show_as(width, height, dark)

    def show_as(self, width: int, height: int, dark: bool) -> None:
        """Have a window of this size, a phone's below 600 pixels, whose owner likes light or dark pages."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def run(self, script: str) -> Any:
        """What a script returns; the page's policy does not apply to it."""
        return self.driver.execute_script(script)

    def open(self, page: Path) -> float:
        """Open a page and draw it; the seconds that it took."""
        start = time.monotonic()
        self.driver.get(page.resolve().as_uri())
        self.screenshot()
        return time.monotonic() - start

    def events(self) -> list[dict[str, Any]]:
        """What the network log has since the last call: DevTools' events, with `method` and `params`."""
        return [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]

    def requests(self) -> list[str]:
        """What was asked for since the last call of `events`."""
        sent = [event["params"]["request"]["url"] for event in self.events() if event["method"] == REQUEST]
        return [url for url in sent if not url.startswith("data:")]

    def messages(self) -> list[str]:
        """What is on the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


@contextlib.contextmanager
def browser(width: int = 1000, height: int = 1200, dark: bool = False) -> Iterator[Browser]:
    """A browser of its own, which ends with the context."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver, width, height, dark)
    finally:
        driver.quit()


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
