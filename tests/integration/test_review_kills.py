"""Servers of `review` that are killed while annotators click: what was saved is there, once."""

import collections
import http.client
import json
import random
import signal
import threading
import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from jaxgpt.reports.judgments import undecided_path
from tests.support.servers import Server

CODE = """
from pathlib import Path
from tests.support.review_server import serve
serve(Path({prompts!r}), Path({out!r}), ["anna", "ben"], {port})
"""


class Annotator(threading.Thread):
    """Judges as the page does, which asks again until the server has answered, and takes one in six back.

    Attributes:
      saved: the clicks that the server has said are saved, but for those that it has said are undone.
    """

    def __init__(self, ask, name, seed):
        super().__init__(daemon=True)
        self._ask, self._name, self._draw = ask, name, random.Random(seed)
        self.saved, self.retries, self.undone, self.error = {}, 0, [], None

    def run(self):
        try:
            self._judge()
        except Exception as error:
            self.error = error

    def _insist(self, path, body):
        while True:
            try:
                status, content = self._ask(self._name, path, body)
            except (OSError, http.client.HTTPException):  # refused, or ended in the middle
                self.retries += 1
                time.sleep(0.02)
                continue
            return status, content

    def _judge(self):
        for number in range(10**6):
            status, content = self._insist("/api/next", {})
            assert status == 200
            if content["is_done"]:
                return
            if not content["item"]:
                time.sleep(0.05)
                continue
            item = content["item"]["id"]
            status, answers = self._insist(f"/api/answers/{item}", None)
            assert status == 200 and len(answers["answers"]) == 2
            click = {"id": f"{self._name}-{number}", "item": item, "shown": answers["shown"]}
            click["choice"] = self._draw.choice([1, 2, 1, 2, "tie", "skip"])
            status, content = self._insist("/api/judgments", click)
            assert (status, content) == (200, {"saved": True, "id": click["id"]})
            self.saved[click["id"]] = item, click["choice"]
            if self._draw.random() < 1 / 6:
                status, content = self._insist("/api/undo", {"id": click["id"]})
                assert status == 200
                del self.saved[click["id"]]
                self.undone.append(click["id"])


def lines_of(out):
    paths = (out, undecided_path(out))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_no_saved_click_is_lost_or_doubled_by_kills_at_any_moment(tmp_path):
    prompts, out, draw = tmp_path / "prompts.jsonl", tmp_path / "prefs.jsonl", random.Random(3)
    prompts.write_text("".join(json.dumps({"prompt": f"p{n}"}) + "\n" for n in range(150)))
    code = {"prompts": str(prompts), "out": str(out)}
    with Server(code=CODE.format(port=0, **code)) as server:
        port = int(server.url.rpartition(":")[2])
        tokens = json.loads((tmp_path / "prefs.tokens.json").read_text())
        current = [server]

        def ask(name, path, body):
            headers = {"Authorization": f"Bearer {tokens[name]}", "Accept": "application/json"}
            status, _, content = server.ask("GET" if body is None else "POST", path, body, headers)
            return status, json.loads(content)

        annotators = [Annotator(ask, "anna", 1), Annotator(ask, "ben", 2)]
        for each in annotators:
            each.start()
        kills = 0
        while any(each.is_alive() for each in annotators):
            time.sleep(draw.uniform(0, 0.25))
            if kills < 2:
                current[-1].stop(signal.SIGKILL)
                kills += 1
                current.append(Server(code=CODE.format(port=port, **code)))
        for each in current[1:]:
            with each:
                pass
    assert [each.error for each in annotators] == [None, None]
    assert kills == 2 and all(each.retries for each in annotators) and all(each.undone for each in annotators)
    lines = lines_of(out)
    saved = annotators[0].saved | annotators[1].saved
    assert collections.Counter(line["id"] for line in lines) == dict.fromkeys(saved, 1)
    assert {line["id"]: (line["item"], line["choice"]) for line in lines} == saved
    judged = collections.Counter((line["annotator"], line["item"]) for line in lines)
    assert set(judged.values()) == {1}
    counting = collections.Counter(line["item"] for line in lines if line["choice"] != "skip")
    seen = collections.Counter(line["item"] for line in lines)
    assert len(seen) == 150 and all(counting[item] >= 1 or seen[item] == 2 for item in seen)
