"""`jaxgpt chat`: a model's answers, its template, and what is refused before the model is loaded."""

import codecs
import io
import json
import sys

import jax
import pytest

from jaxgpt.data.chat import CHAT_TEMPLATE
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.inference.generate import generate
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import load_hf, save_hf
from tests.support.commands import run_command
from tests.support.models import random_model
from tests.support.terminal import Terminal

CONFIG = GPT2Config(vocab_size=257, block_size=96, n_layer=1, n_head=2, n_embd=16)
TOKENIZER = ByteTokenizer()
MAIN = "import runpy, sys\nsys.argv[0] = 'jaxgpt'\nrunpy.run_module('jaxgpt', run_name='__main__', alter_sys=True)\n"


def write_model(folder, tokenizer=TOKENIZER, template=None):
    """A model in Hugging Face's layout."""
    files = tokenizer.hugging_face_files(chat_template=template)
    save_hf(random_model(CONFIG, 0.3), folder, others=files, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """As a run of conversations is exported."""
    return write_model(tmp_path_factory.mktemp("models") / "chat", template=CHAT_TEMPLATE)


def run(monkeypatch, typed, *words):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    return run_command(["chat", *map(str, words), "--device", "cpu"])


def test_the_answers_are_those_that_the_model_gives_to_the_text(exported, monkeypatch, write):
    """Of the whole conversation, and with the same seed; at a prompt, and in a file."""
    flags = ["--system", "Be brief.", "--max-new-tokens", 9, "--seed", 3]
    path = write("a.jsonl", [{"content": "Hi!"}, {"content": "\u00e9"}])
    ended = run(monkeypatch, "", exported, "--input", path, *flags)
    assert ended.problem == "" and "template of docs/chat.md" not in ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    model, text = load_hf(exported), "System: Be brief.\n\nUser: Hi!\n\nAssistant:"

    def continue_text(text, n=1):
        """As `sample --n`: equal prompts get texts of their own."""
        prompts = [TOKENIZER.encode_prompt(text)] * n
        new = generate(model, prompts, 9, jax.random.key(3), temperature=0.8, top_k=50, stop=256)[-1]
        return new, codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(new), final=len(new) < 9)

    def as_message(written):
        return written[1:] if written[:1] == " " and written[1:2].strip() else written

    new, first = continue_text(text)
    assert rows[0] == {"role": "assistant", "content": as_message(first), "finish_reason": "length"} and len(new) == 9
    separated = ("" if rows[0]["content"][:1] in " \t\r\n" else " ") + rows[0]["content"]
    text += separated + "<|endoftext|>\n\nUser: \u00e9\n\nAssistant:"
    assert rows[1]["content"] == as_message(continue_text(text)[1])
    typed = run(monkeypatch, "Hi!\n\u00e9\n/regenerate\n", exported, *flags)
    again = as_message(continue_text(text, 2)[1])
    shown = [row["content"].removeprefix(" ") for row in rows] + [again.removeprefix(" ")]
    assert typed.out == "".join(each + "\n" for each in shown) and again != rows[1]["content"]
    assert typed.err.count("note: the answer was cut: it reached --max-new-tokens, or the end of the model's") == 3


def test_a_full_context_and_a_model_without_a_template_are_noted(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "base")
    ended = run(monkeypatch, "Some words\n" * 4 + "x" * 96 + "\ny\n", folder, "--max-new-tokens", 30, "--system", "S")
    assert ended.problem == "" and len(ended.out.splitlines()) >= 5
    notes = [line for line in ended.err.splitlines() if "answer was cut" not in line]
    assert "base: not trained on conversations, as far as its files say: it gets the template of" in notes[1]
    assert notes[2] == "note: the model's context is full: it no longer reads the first 2 messages"
    assert "tokens with the system prompt, and there is room for 72 in the model's context" in ended.err


def test_a_template_of_its_own_is_used(tmp_path, monkeypatch):
    pytest.importorskip("jinja2", reason="needs jinja2: pip install -r requirements-chat.txt")
    template = (
        "{% if messages[0].content == 'no' %}{{ raise_exception('never') }}{% endif %}<{{ messages[-1].content }}>"
    )
    folder = write_model(tmp_path / "own", template=template)
    ended = run(monkeypatch, "Hi!\n", folder, "--max-new-tokens", 9, "--temperature", 0)
    (new,) = generate(load_hf(folder), [list(b"<Hi!>")], 9, temperature=0, stop=256)
    assert ended.out.strip() == bytes(new).decode("utf-8", "ignore").strip() and "not trained" not in ended.err
    refused = run(monkeypatch, "no\nHi!\n", folder, "--max-new-tokens", 9, "--temperature", 0)
    assert refused.out == ended.out and "refuses the conversation (TemplateError: never)" in refused.err


def test_what_is_wrong_is_one_line_before_the_model_is_loaded(exported, tmp_path, monkeypatch, write):
    chars = write_model(tmp_path / "chars", CharTokenizer("".join(map(chr, range(32, 127)))))
    bad = write("bad.jsonl", [{"content": "x"}, {"text": "x"}])
    for words, code, message in (
        ([exported, "--input", tmp_path / "none.jsonl"], 3, "none.jsonl: no such file; give one with a record a line"),
        ([exported, "--input", bad], 3, "bad.jsonl, line 2: needs a 'content', the next message, or 'messages'"),
        ([tmp_path / "none"], 4, "none: no such folder"),
        ([chars], 3, "the tokenizer chars has no token that ends a document; conversations need one: use bytes"),
    ):
        ended = run(monkeypatch, "x\n", *words)
        assert (ended.code, ended.out, ended.problem) == (code, "", "") and message in ended.err
        assert ended.err.count("\n") == 1
    long = write("long.jsonl", [{"content": "x"}, {"content": "x" * 100}])
    ended = run(monkeypatch, "", exported, "--input", long)
    assert (
        ended.code == 3 and len(ended.out.splitlines()) == 1 and "long.jsonl, line 2: the last message has" in ended.err
    )


@pytest.mark.slow
def test_a_run_of_conversations_at_a_terminal(tmp_path, write):
    """The program itself: it says what it has learned, and Ctrl-C stops an answer."""
    talk = ["S", "Hi!", "Na\u00efve \U0001f642", "Go", "ab" * 40]
    roles = ["system", "user", "assistant", "user", "assistant"]
    record = {"messages": [{"role": role, "content": content} for role, content in zip(roles, talk, strict=True)]}
    words = ["--n-layer", 2, "--n-head", 2, "--n-embd", 64, "--block-size", 256, "--tokenizer", "bytes", "--lr", 3e-3]
    words += [
        "--data",
        write("talk.jsonl", [record] * 4),
        "--B",
        4,
        "--T",
        160,
        "--steps",
        80,
        "--out",
        tmp_path / "run",
    ]
    assert run_command(["train", *map(str, words)]).problem == ""
    flags = [str(tmp_path / "run"), "--system", "S", "--temperature", "0", "--device", "cpu"]
    with Terminal(MAIN, "chat", *flags) as terminal:
        terminal.read_until("\n> ")
        terminal.type("Hi!\r")
        assert terminal.read_until("\n> ").endswith("\r\nNa\u00efve \U0001f642\r")
        terminal.type("Go\r")
        terminal.read_until("abab")
        terminal.type("\x03")
        rest = terminal.read_until("\n> ")
        assert "note: the answer was interrupted" in rest or "ab" * 38 in rest  # it was faster
        terminal.type(f"/save {tmp_path}/saved.jsonl\r")
        assert "saved 5 messages" in terminal.read_until("\n> ")
        terminal.type("\x04")
        assert terminal.read_to_end()[0] == 0
    saved = json.loads((tmp_path / "saved.jsonl").read_text())["messages"]
    assert saved[:4] == record["messages"][:4] and ("ab" * 40).startswith(saved[4]["content"])
