"""The page of `jaxgpt review` as an annotator uses it, by keyboard or mouse; and pictures of it for the docs.

python -m tests.support.review_page RUN RUN2 --prompts FILE --folder docs
"""

import contextlib
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

from tests.support.browser import Browser, browser
from tests.support.servers import Server

KEYS = {1: "1", 2: "2", "tie": "=", "skip": "s"}
BUTTONS = {1: "choose1", 2: "choose2", "tie": "tie", "skip": "skip"}
PICTURES = {"light": (1000, 450, False), "dark": (1000, 450, True), "phone": (390, 740, False)}


RECORD_FETCH = """
window.answers = [];
const fetchAlone = window.fetch;
window.fetch = async (path, options) => {
  const response = await fetchAlone(path, options), answer = { path: String(path), body: "" };
  window.answers.push(answer);
  const reader = response.clone().body.pipeThrough(new TextDecoderStream()).getReader();
  const copy = ({ value, done }) => {
    answer.body += value || "";
    return done ? null : reader.read().then(copy);
  };
  reader.read().then(copy).catch(() => {}); // the page has left
  return response;
};
"""


@dataclasses.dataclass
class Flags:
    """Take pictures of the page while two models are reviewed."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    prompts: Path = Path("prompts.jsonl")
    folder: Path = Path("docs")


class ReviewPage:
    """An open page. Each action waits until the page has done what it asks for."""

    def __init__(self, session: Browser, url: str):
        from selenium.webdriver.support.ui import WebDriverWait

        self.session, self.driver = session, session.driver
        self._wait = WebDriverWait(self.driver, 60, poll_frequency=0.02)
        self.driver.get(url)
        self.wait_for_item()

    def wait_for_item(self, other_than: str = "", like: str = "") -> None:
        """Wait until an item can be judged, or none is left."""

        def is_there(_: object) -> bool:
            state, item = self.state, self.item
            return state == "none" or (state == "ready" and item != other_than and like in ("", item))

        self._wait.until(is_there)

    @property
    def state(self) -> str:
        return self.session.run("return document.getElementById('task').dataset.state")

    @property
    def item(self) -> str:
        return self.session.run("return document.getElementById('task').dataset.item")

    @property
    def prompt(self) -> str:
        return self.text("#prompt .text")

    @property
    def answers(self) -> list[str]:
        return [self.text("#text1"), self.text("#text2")]

    @property
    def remark(self) -> str:
        return self.session.run("return document.getElementById('remark').value")

    def text(self, selector: str) -> str:
        """All that an element has, blanks included."""
        return self.session.run(f"return document.querySelector({json.dumps(selector)}).textContent")

    def click(self, element_id: str) -> None:
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.ID, element_id).click()

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def write(self, element_id: str, text: str) -> None:
        """Replace what a field has."""
        from selenium.webdriver.common.by import By

        field = self.driver.find_element(By.ID, element_id)
        field.clear()
        field.send_keys(text)

    def choose(self, choice: int | str, by_mouse: bool, wait: bool = True) -> None:
        """Judge the item; without `wait`, perhaps before the server has heard of it."""
        item = self.item
        if by_mouse:
            self.click(BUTTONS[choice])
        else:
            self.press(KEYS[choice])
        if wait:
            self.wait_for_item(other_than=item)

    def edit(self, place: int, text: str, by_mouse: bool) -> None:
        """Replace an answer by a better one."""
        from selenium.webdriver.common.keys import Keys

        item = self.item
        if by_mouse:
            self.click(f"edit{place}")
        else:
            self.press("e")
            self.press(str(place))
        self.write("edit", text)
        if by_mouse:
            self.click("save")
        else:
            self.press(Keys.CONTROL, Keys.ENTER)
        self.wait_for_item(other_than=item)

    def undo(self, item: str, by_mouse: bool) -> None:
        """Take the last judgment back, which was of this item."""
        if by_mouse:
            self.click("undo")
        else:
            self.press("u")
        self.wait_for_item(like=item)


class NetworkLog:
    """All that comes to a page that is opened after this: the browser's own log, and what its requests were answered.

    The browser's log has no body of a stream that the page leaves before its end, so fetch keeps a copy of each.
    """

    def __init__(self, session: Browser):
        self._session, self.events = session, []  # as JSON, with all addresses and headers
        session.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORD_FETCH})

    def read(self) -> None:
        """Take the events that have come since the last call."""
        self.events += map(json.dumps, self._session.events())

    def bodies(self) -> list[tuple[str, str]]:
        """The answers to the page's requests, each with its address."""
        return [(answer["path"], answer["body"]) for answer in self._session.run("return window.answers")]


def main(flags: Flags) -> int:
    with contextlib.ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "prefs.jsonl"
        words = ["review", *flags.runs, "--prompts", flags.prompts, "--out", out, "--annotators", "anna", "--port", "0"]
        server = stack.enter_context(Server(*words, "--max-new-tokens", "40"))
        session = stack.enter_context(browser())
        page = ReviewPage(session, server.urls[0])
        for _ in range(12):
            page.choose(1 if len(page.answers[0]) < len(page.answers[1]) else 2, by_mouse=False)
        for name, size in PICTURES.items():
            session.show_as(*size)
            (flags.folder / f"review_{name}.png").write_bytes(session.screenshot())
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))
