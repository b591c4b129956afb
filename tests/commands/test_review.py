"""`jaxgpt review`: from the command line to a file that trains, and what is refused before a model is read."""

import json
import signal
import sys

import pytest

from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.rollouts import load_data
from tests.support.commands import run_command
from tests.support.models import random_model
from tests.support.servers import Server
from tests.support.trees import snapshot

TOKENIZER = ByteTokenizer()
CONFIG = GPT2Config(vocab_size=257, block_size=64, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture
def folder(tmp_path):
    """A model, and prompts."""
    save_hf(random_model(CONFIG, 0.3), tmp_path / "model", others=TOKENIZER.hugging_face_files(), tokenizer=TOKENIZER)
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt": "Plover", "topic": "t"}\n{"prompt": "Plover b"}\n{"prompt": "Plover c"}\n'
    )
    return tmp_path


def words(folder, **flags):
    flags = {"prompts": folder / "prompts.jsonl", "out": folder / "prefs.jsonl", "device": "cpu", "port": 0} | flags
    return ["review", folder / "model", *(word for name, value in flags.items() for word in (f"--{name}", value))]


class Page:
    def __init__(self, server):
        self._server, self._headers = server, {"Authorization": f"Bearer {server.token}", "Accept": "application/json"}

    def ask(self, path, body=None):
        status, _, content = self._server.ask("GET" if body is None else "POST", path, body, self._headers)
        return status, json.loads(content)

    def judge(self, id, choice, **more):
        item = self.ask("/api/next", {})[1]["item"]["id"]
        answers = self.ask(f"/api/answers/{item}")[1]
        click = {"id": id, "item": item, "shown": answers["shown"], "choice": choice} | more
        return self.ask("/api/judgments", click), answers["answers"]


@pytest.mark.slow
def test_what_is_judged_survives_a_kill_and_is_data_of_both_kinds_of_runs(folder):
    pytest.importorskip("uvicorn")
    flags = {"max-new-tokens": 12}
    with Server(*words(folder, **flags)) as server:
        page = Page(server)
        assert page.judge("c1", 1)[0] == (200, {"saved": True, "id": "c1"})
        before = page.ask("/api/next", {})[1]["item"]["id"]
        answers = page.ask(f"/api/answers/{before}")[1]
        server.stop(signal.SIGKILL)
    with Server(*words(folder, **flags)) as server:
        page = Page(server)
        assert page.ask("/api/next", {})[1]["last"]["id"] == "c1"
        assert page.ask(f"/api/answers/{before}")[1] == answers
        assert page.judge("c2", 2, edit="better")[0][0] == page.judge("c3", "tie")[0][0] == 200
        assert page.ask("/api/next", {})[1]["is_done"]
        busy = run_command([*map(str, words(folder))])
        assert busy.code == 75 and "in use by another review" in busy.err
        assert server.stop(signal.SIGINT) == 130
        assert "Traceback" not in server.output and "Plover" not in server.output
    lines = [json.loads(line) for line in (folder / "prefs.jsonl").read_text().splitlines()]
    assert [line["models"][0]["name"] for line in lines] == ["model", "model"] and lines[0]["topic"] == "t"
    one, two = (line["models"] for line in lines)
    assert one == two == [one[0]] * 2 and len(one[0]["fingerprint"]) == 16
    for text, seed in zip(lines[0]["answers"], lines[0]["seeds"], strict=True):
        flags = ["--seed", f"{seed}", "--max-new-tokens", "12", "--device", "cpu"]
        written = run_command(["sample", f"{folder / 'model'}", "--prompt", lines[0]["prompt"], *flags])
        assert written.out.removesuffix("\n").startswith(lines[0]["prompt"] + text)  # but for half a character
    for objective, kind in (("dpo", "preferences"), ("auto", "completions")):
        data = load_data(TrainConfig.of(data=str(folder / "prefs.jsonl"), objective=objective, T=64))[0]
        assert data.kind == kind and data.num_rows() and not data.notes
    assert (folder / "prefs.tokens.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "flags, code, message",
    [
        ({"prompts": "missing.jsonl"}, 3, "missing.jsonl"),
        ({"prompts": "model/config.json"}, 3, "not a file of examples"),
        ({"prompts": "long.jsonl"}, 3, "long.jsonl, line 2: the prompt has 99 tokens, and"),
        ({"out": "none/prefs.jsonl"}, 2, "--out none/prefs.jsonl: No such file or directory; choose a file"),
        ({"out": "prompts.jsonl"}, 2, "--out prompts.jsonl is --prompts prompts.jsonl, which must stay"),
        ({"out": "other.jsonl"}, 3, "other.jsonl, line 1: not a judgment of `review`: 'id'"),
        ({"out": "secrets.jsonl"}, 3, "secrets.tokens.json: not a JSON object; delete it"),
        ({"host": "203.0.113.7"}, 2, "--host 203.0.113.7 --port 0: "),
    ],
)
def test_what_is_wrong_is_one_line_before_the_model_is_read(folder, flags, code, message, monkeypatch):
    pytest.importorskip("uvicorn")
    (folder / "long.jsonl").write_text('{"prompt": "a"}\n{"prompt": "%s"}\n' % ("b" * 99))
    (folder / "other.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (folder / "secrets.tokens.json").write_text("[]")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("jaxgpt.runs.huggingface.load", lambda *_, **__: pytest.fail("the model was read"))
    before = snapshot(folder)
    given = {"prompts": "prompts.jsonl", "out": "prefs.jsonl"} | flags
    ended = run_command([*map(str, words(folder, **given))])
    assert (ended.code, ended.problem) == (code, "") and message in ended.err, ended.err
    assert snapshot(folder) == before


def test_without_the_libraries_of_a_server_it_says_how_to_get_them(folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("jaxgpt.serving", "jaxgpt.commands.review"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    ended = run_command([*map(str, words(folder))])
    assert (ended.code, ended.problem) == (2, "") and "pip install -r requirements-serve.txt" in ended.err


def test_no_number_of_annotators_is_too_many_for_the_models(folder, monkeypatch):
    pytest.importorskip("uvicorn")
    from jaxgpt.serving import served_model

    def load_served(source, device, dtype, batch_size, max_waiting):
        raise UsageError(f"asked for {batch_size} and {max_waiting}")

    monkeypatch.setattr(served_model, "load_served", load_served)
    names = ",".join(f"a{number}" for number in range(80))
    assert "error: asked for 16 and 6\n" in run_command([*map(str, words(folder, annotators=names))]).err
