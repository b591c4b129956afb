"""`jaxgpt sample`: what it prints, in pieces or whole, and every wrong input."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from jaxgpt import console
from jaxgpt.commands import sample, train
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.inference.generate import Chunk
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runtime import device
from tests.support.models import write_gpt2

CONFIG = GPT2Config(block_size=32, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_gpt2(tmp_path_factory.mktemp("models") / "hf", CONFIG)


def run(*words):
    return console.run(sample.main, [str(word) for word in words])


def test_it_prints_the_prompt_and_what_follows(folder, capsys):
    assert run(folder, "--prompt", "Hello there", "--max-new-tokens", 9, "--temperature", 0) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Hello there") and out.endswith("\n")
    from jaxgpt.inference.generate import generate
    from jaxgpt.runs.huggingface import load_hf

    (ids,) = generate(load_hf(folder), [encoding().encode("Hello there")], 9, temperature=0, stop=50256)
    assert out == "Hello there" + encoding().decode(ids) + "\n"
    assert re.fullmatch(r"note: .*: 1 layer, width 16, float32, on CPU, .*\n", err)


@pytest.mark.slow
def test_with_drafts_it_prints_the_same_text_and_what_came_of_them(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("again and " * 150)
    words = ["--n-layer", 4, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--B", 4, "--T", 16, "--lr", 2e-2]
    words += ["--predict-tokens", 3, "--steps", 60, "--data", tmp_path / "text.txt", "--out", tmp_path / "run"]
    assert console.run(train.main, [str(word) for word in words]) == 0
    capsys.readouterr()
    words = [tmp_path / "run", "--prompt", "the same", "--max-new-tokens", 40, "--temperature", 0]
    assert run(*words) == 0
    plain, err = capsys.readouterr()
    assert "pass" not in err
    assert run(*words, "--speculate") == 0
    out, err = capsys.readouterr()
    assert out == plain and len(out) > 100
    heads = r"head 2 (\d+)%, head 3 (\d+)% of (\d+) passes\n"
    found = re.search(r"note: ([\d.]+) tokens per forward pass; accepted drafts: " + heads, err)
    per_pass, second, third, passes = map(float, found.groups())
    assert 1 < per_pass <= 3 and third <= second and per_pass * passes == pytest.approx(40, abs=0.2)  # both are rounded
    assert per_pass == pytest.approx(1 + (second + third) / 100, abs=3 / passes)  # the last drafts may be too many


def test_several_texts_are_those_of_one_seed(folder, capsys):
    words = [folder, "--prompt", "Hello", "--max-new-tokens", 8, "--seed", 5]
    assert run(*words) == 0
    one = capsys.readouterr().out
    assert run(*words, "--n", 3) == 0
    texts = capsys.readouterr().out.split("-" * 80 + "\n")
    assert len(texts) == 3 and texts[0] == one and len(set(texts)) == 3
    assert all(text.startswith("Hello") for text in texts)
    assert run(*words[:-1], 6, "--n", 3) == 0
    assert capsys.readouterr().out.split("-" * 80 + "\n") != texts


def test_a_prompt_from_stdin(folder, capsys, monkeypatch):
    def read(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return run(folder, "--prompt", "-", "--max-new-tokens", 1)

    assert read("\ufeffcaf\u00e9\r\n\r\n".encode()) == 0
    assert capsys.readouterr().out.startswith("caf\u00e9\n")  # one newline at the end is not of the prompt
    assert read(b"") == 2 and read(b"\n") == 2
    assert capsys.readouterr().err.count("--prompt -: there was nothing in stdin") == 2
    monkeypatch.setattr(sys, "stdin", None)  # closed
    assert run(folder, "--prompt", "-") == 2
    assert "there was nothing in stdin" in capsys.readouterr().err
    assert read(b"caf\xe9") == 2
    assert "not UTF-8: byte 0xe9 at offset 3; convert it first, for example: iconv -f" in capsys.readouterr().err


def test_a_long_text_goes_on_and_says_how(folder, capsys):
    assert run(folder, "--prompt", "Hello", "--max-new-tokens", 100, "--temperature", 0) == 0
    out, err = capsys.readouterr()
    assert "note: longer than the model's context of 32 tokens: when it is full, its older half is dropped" in err
    assert len(encoding().encode(out)) > 50


def test_endoftext_in_a_prompt_is_the_token(folder, monkeypatch):
    prompts = []
    monkeypatch.setattr(
        "jaxgpt.inference.generate.stream", lambda model, ids, *_, **__: prompts.append(ids) or iter([])
    )
    assert run(folder, "--prompt", "<|endoftext|>Hi", "--n", 2) == 0
    assert prompts == [[[50256, *encoding().encode("Hi")]] * 2]


class Terminal(io.StringIO):
    """Keeps each write."""

    def __init__(self):
        super().__init__()
        self.pieces = []

    def write(self, text):
        self.pieces.append(text)
        return len(text)


def test_no_character_is_printed_in_parts(monkeypatch):
    text = "na\u00efve \U0001f642\U0001f680 \u65e5\u672c\u8a9e \u0451\U0001f926\U0001f3fd"
    ids = encoding().encode(text)
    assert len(ids) > len(text)  # many characters are of several tokens
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    sample.print_texts("> ", (Chunk([[token], [token]], 0, []) for token in ids), 2, GPT2_TOKENIZER)
    first, second = "".join(terminal.pieces).split("\n" + "-" * 80 + "\n")
    assert first == "> " + text and second == "> " + text + "\n"
    assert "\ufffd" not in "".join(terminal.pieces)
    assert len([piece for piece in terminal.pieces if piece]) > 12  # it came in pieces


def test_a_text_that_ends_within_a_character_says_so(monkeypatch):
    ids = encoding().encode("\U0001f642")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    sample.print_texts("", iter([Chunk([[ids[0]]], 0, [])]), 1, GPT2_TOKENIZER)
    assert "".join(terminal.pieces) == "\ufffd\n"


def test_what_a_terminal_acts_on_is_escaped_there_alone(monkeypatch):
    chunks = [Chunk([encoding().encode("\x1b[2J"), encoding().encode("\x9b\n")], 0, [])]
    for is_terminal, texts in ((True, ["\\x1b[2J", "\\x9b\n"]), (False, ["\x1b[2J", "\x9b\n"])):
        monkeypatch.setattr(sys, "stdout", terminal := Terminal())
        terminal.isatty = lambda is_terminal=is_terminal: is_terminal
        sample.print_texts("\x07\t", iter(chunks), 2, GPT2_TOKENIZER)
        prompt = "\\x07\t" if is_terminal else "\x07\t"
        assert "".join(terminal.pieces) == f"{prompt}{texts[0]}\n{'-' * 80}\n{prompt}{texts[1]}\n"


# ---- Wrong input


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--prompt", ""], 2, "--prompt is empty"),
        (["--prompt", "x", "--temperature", "-1"], 2, "--temperature -1.0 is out of range"),
        (["--prompt", "x", "--temperature", "nan"], 2, "--temperature nan is out of range"),
        (["--prompt", "x", "--top-k", "-1"], 2, "--top-k -1 is out of range"),
        (["--prompt", "x", "--top-p", "0"], 2, "--top-p 0.0 is out of range: it must be above 0, and at most 1"),
        (["--prompt", "x", "--n", "0"], 2, "--n 0 is out of range"),
        (["--prompt", "x", "--max-new-tokens", "0"], 2, "--max-new-tokens 0 is out of range"),
        (["--prompt", "x " * 40], 2, "--prompt has 41 tokens, more than the model's context of 32; shorten it"),
        (["--prompt", "a" + " " * 10**6 + "b"], 2, "--prompt has 1,000,001 tokens, more than the model's context"),
        (["--prompt", "caf\udce9"], 2, "--prompt is not UTF-8"),
        (["--prompt", "x", "--speculate"], 2, "--speculate needs --temperature 0; add it"),
        (
            ["--prompt", "x", "--speculate", "--temperature", "0"],
            2,
            "hf predicts one token, and has no heads that draft",
        ),
        (["--prompt", "x", "--device", "gpu"], 2, "--device gpu: no usable NVIDIA GPU"),
        ([], 2, "not given: --prompt STR; --help lists the flags"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_line(folder, words, code, message, capsys, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    assert run(folder, *words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_wrong_weights_are_one_line(folder, tmp_path, capsys):
    def complaint(path):
        assert run(path, "--prompt", "x") == 4
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert out == "" and len(lines) == 1
        return lines[0].removeprefix("error: ")

    assert complaint(tmp_path / "nowhere").startswith(f"{tmp_path}/nowhere: no such folder; weights have the name of")
    (tmp_path / "empty").mkdir()
    assert complaint(tmp_path / "empty").startswith(f"{tmp_path}/empty: no config.json there: no run")
    config = json.loads((folder / "config.json").read_text())
    for name, change, message in (
        ("t5", {"model_type": "t5"}, "model_type is 't5', which is not supported; 'gpt2'"),
        ("wide", {"vocab_size": 50260}, "50,260 token ids, and GPT-2's tokenizer has 50,257"),
        ("truncated", {}, "model.safetensors: corrupt, or no safetensors file"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | change))
        content = (folder / "model.safetensors").read_bytes()
        (tmp_path / name / "model.safetensors").write_bytes(content[:-1] if name == "truncated" else content)
        assert message in complaint(tmp_path / name)
    (tmp_path / "truncated" / "model.safetensors").rename(tmp_path / "truncated" / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in complaint(tmp_path / "truncated")


def test_a_damaged_run_is_one_line_and_the_process_ends(tmp_path):
    """In a process of its own: what fails in orbax leaves threads and warnings behind."""
    flags = dataclasses.asdict(CONFIG)
    state = tmp_path / "run" / "checkpoints" / "3" / "state"
    state.mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps(flags))
    command = [sys.executable, "-m", "jaxgpt", "sample", str(tmp_path / "run"), "--prompt", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4 and done.stdout == ""
    *notes, error = done.stderr.splitlines()
    assert all(note.startswith("note: ") for note in notes) and error.startswith(
        f"error: {tmp_path}/run/checkpoints/3 is corrupt and can't be used ("
    )


def test_a_wrong_flag_is_refused_before_jax_is_imported():
    code = "import sys; from jaxgpt import console; from jaxgpt.commands import sample\n"
    code += "wrong = ['gpt2', '--prompt', ''], ['nowhere', '--prompt', 'x']\n"
    code += "codes = [console.run(sample.main, words) for words in wrong]\n"
    code += "print(codes, sorted({'jax', 'numpy.ma'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[2, 4] []\n"


@pytest.mark.slow
def test_a_terminal_that_is_not_utf8_shows_question_marks(folder):
    command = [
        sys.executable,
        "-m",
        "jaxgpt",
        "sample",
        str(folder),
        "--prompt",
        "na\u00efve",
        "--max-new-tokens",
        "1",
    ]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, timeout=120, env=environment)
    assert done.returncode == 0 and done.stdout.startswith(b"na?ve")


@pytest.mark.slow
def test_closed_outputs_are_no_traceback(folder):
    command = f"{sys.executable} -m jaxgpt sample {folder} --prompt x --max-new-tokens 1"
    done = subprocess.run(command + " >&-", shell=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stderr.count(b"\n") == 1
    done = subprocess.run(command + " 2>&-", shell=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(b"x") and b"note" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_text(folder, number):
    command = [
        sys.executable,
        "-m",
        "jaxgpt",
        "sample",
        str(folder),
        "--prompt",
        "x",
        "--max-new-tokens",
        "100000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(20)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    notes, line = err.splitlines()[:-1], err.splitlines()[-1]
    assert all(note.startswith(b"note: ") for note in notes) and line in (b"error: interrupted", b"error: terminated")


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_traceback(folder):
    command = [sys.executable, "-m", "jaxgpt", "sample", str(folder), "--prompt", "x", "--max-new-tokens", "5000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(20)
        process.stdout.close()
        assert process.wait(timeout=120) == 141
        assert process.stderr.read().count(b"\n") == 2  # the two notes
