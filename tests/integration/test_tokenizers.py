"""Runs with other tokenizers than GPT-2's: trained, resumed, sampled, measured, exported; from text and shards."""

import functools
import json
import shutil

import numpy as np
import pytest

from jaxgpt.data import shards, token_file
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.runs.weights import resolve_weights
from tests.support import golden, round_trips
from tests.support.commands import run_command
from tests.support.kill import saved_bits
from tests.support.trees import snapshot

SHAPE = ["--n-layer", 2, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--B", 2, "--T", 16, "--device", "cpu"]
LINES = [f"{n}. The naïve {'fox' if n % 3 else 'dog'} saw {n % 7} of 11 ducks; so it went." for n in range(120)]
TEXT = "\n".join(LINES) + "\n"


def run(*words, code=0):
    """A command's output; it must end with this code, and with one line of error if that is not 0."""
    ended = run_command([*map(str, words)])
    assert (ended.code, ended.problem) == (code, ""), ended
    return ended.err if code else ended.out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with text.txt, tok (a trained tokenizer), and prepared folders of it by their tokenizers' names."""
    folder = tmp_path_factory.mktemp("tokenizers")
    (folder / "text.txt").write_text(TEXT)
    out = run("tokenizer", "train", folder / "text.txt", "--vocab", 300, "--out", folder / "tok")
    assert "vocabulary 300 token ids\n" in out and f"saved     {folder}/tok\n" in out
    for name in ("gpt2", "bytes", "chars", "bpe"):
        tokenizer = folder / "tok" if name == "bpe" else name
        run("prepare", folder / "text.txt", "--tokenizer", tokenizer, "--out", folder / name, "--workers", 1)
    return folder


@pytest.fixture(scope="module")
def runs(made, tmp_path_factory):
    """runs(name): the folder of a run of 4 steps in two starts, and of one in one start, by their tokenizer."""

    @functools.cache
    def runs(name):
        folder = tmp_path_factory.mktemp(name)
        train = ["train", *SHAPE, "--val", 0.1, "--data", made / "text.txt", "--tokenizer"]
        shutil.copytree(made / "tok", folder / "tok")
        tokenizer = folder / "tok" if name == "bpe" else name
        run(*train, tokenizer, "--steps", 4, "--out", folder / "whole")
        run(*train, tokenizer, "--steps", 2, "--out", folder / "parts")
        shutil.rmtree(folder / "tok")
        if name == "bpe":
            assert "there is no " in run(*train, tokenizer, "--out", folder / "parts", code=2)
            tokenizer = folder / "parts"  # which has a copy
        run(*train, tokenizer, "--steps", 4, "--out", folder / "parts")
        return folder / "parts", folder / "whole"

    return runs


@pytest.mark.parametrize("name", ["bpe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bytes", "chars"))])
def test_a_run_resumes_to_the_bit_and_keeps_its_tokenizer(name, runs):
    parts, whole = runs(name)
    assert saved_bits(whole, 4) == saved_bits(parts, 4)
    source = resolve_weights(parts)
    expected = {"bpe": (300, 0), "bytes": (257, 256), "chars": (len(set(TEXT)), None)}[name]
    assert (source.tokenizer.vocab_size, source.tokenizer.end) == expected
    assert source.config.vocab_size == expected[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bytes", "chars"])
def test_a_run_is_sampled_measured_and_begun_with(name, made, runs, tmp_path):
    folder, _ = runs(name)
    tokenizer = resolve_weights(folder).tokenizer
    text = run("sample", folder, "--prompt", "The fox", "--max-new-tokens", 4, "--device", "cpu")
    assert text.startswith("The fox")
    run("evaluate", folder, "--data", made / "text.txt", "--device", "cpu", "--json", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["bytes"] == len(TEXT.encode()) and found["tokens"] == len(tokenizer.encode(TEXT)) - 1
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * found["tokens"] / np.log(2) / found["bytes"])
    if name == "chars":  # a single text has no end token, and the documents of shards need one
        run("train", *SHAPE, "--data", made / name, "--tokenizer", folder, "--out", tmp_path / "p", code=3)
    run("train", *SHAPE, "--data", made / name, "--tokenizer", name, "--steps", 1, "--out", tmp_path / "p")
    new = (
        "train",
        "--init-from",
        folder,
        *SHAPE[-6:],
        "--data",
        made / "text.txt",
        "--steps",
        1,
        "--out",
        tmp_path / "i",
    )
    run(*new)
    assert resolve_weights(tmp_path / "i").tokenizer == tokenizer


@pytest.mark.slow
def test_the_characters_of_the_default_corpus(tmp_path):
    out = run("train", *SHAPE, "--tokenizer", "chars", "--steps", 1, "--out", tmp_path / "out")
    assert "corpus    tiny Shakespeare: 1,115,394 tokens" in out
    assert resolve_weights(tmp_path / "out").config.vocab_size == 65


def test_shards_hold_the_text(made):
    for name in ("bytes", "chars", "bpe"):
        tokenizer = shards.read_tokenizer(made / name)
        ids = shards.open_split(made / name, "train", tokenizer)[:].tolist()
        assert tokenizer.decode(ids) == f"<|endoftext|>{TEXT}" and ids[0] == tokenizer.end
        assert open_tokenizer(str(made / name)) == tokenizer
    assert shards.read_tokenizer(made / "chars") == CharTokenizer.of([TEXT], has_end=True)
    assert "6. The naïve" in run("inspect", made / "chars", "--show-text")


def test_another_tokenizer_is_refused_in_a_line_and_nothing_is_lost(made, tmp_path, write):
    out, text = tmp_path / "out", made / "text.txt"
    run("train", *SHAPE, "--data", text, "--tokenizer", "bytes", "--steps", 1, "--out", out)
    shutil.copytree(made / "tok", tmp_path / "endless")
    content = json.loads((tmp_path / "endless" / "tokenizer.json").read_text())
    del content["model"]["vocab"]["<|endoftext|>"], content["added_tokens"][:]
    write("endless/tokenizer.json", json.dumps(content))
    (tmp_path / "endless" / "tokenizer_config.json").unlink()
    write("two.txt", "a\n<|endoftext|>\nb\n")
    write("wide.bin", token_file.header(3, token_file.WIDE_TOKEN) + np.array([1, 2, 70_000], "<u4").tobytes())
    run("train", *SHAPE, "--data", text, "--tokenizer", out, "--steps", 1, "--out", out, "--fresh")  # its own
    kept = out, made / "tok", made / "bytes"
    before = [*map(snapshot, kept)]
    train, new = ["train", *SHAPE, "--steps", 2], tmp_path / "new"
    for code, words, message in (
        (4, [*train, "--data", text, "--tokenizer", made / "tok", "--out", out], "tokenizer bytes c7fbbfb343 there"),
        (4, [*train, "--data", text, "--out", out], "tokenizer bytes c7fbbfb343 there and gpt2 here"),
        (3, [*train, "--data", made / "bpe", "--out", new], "prepared with the tokenizer bpe"),
        (3, [*train, "--data", made / "gpt2", "--tokenizer", "bytes", "--out", new], "train with --tokenizer gpt2"),
        (3, [*train, "--data", made / "bytes", "--tokenizer", "chars", "--out", new], "tokens that are no characters"),
        (3, [*train, "--data", text, "--tokenizer", tmp_path / "endless", "--out", new], "is not named; name it in"),
        (3, [*train, "--data", text, "--tokenizer", text, "--out", new], "can't be read"),
        (3, [*train, "--data", tmp_path / "wide.bin", "--out", new], "uint32 ids, and those of the tokenizer"),
        (3, [*train, "--data", text, "--tokenizer", "chars", "--val", tmp_path / "two.txt", "--out", new],
         "no token that ends a document; several documents need one"),
        (2, [*train, "--data", text, "--vocab-size", 300, "--out", new], "--vocab-size 300: the tokenizer has"),
        (2, [*train, "--data", text, "--init-from", out, "--tokenizer", "gpt2", "--out", new], "leave --tokenizer out"),
        (2, [*train, "--data", text, "--tokenizer", made / "tok", "--out", made / "tok"], "tok: contains tokenizer"),
        (2, ["prepare", text, "--tokenizer", "nothing", "--out", new], "--tokenizer nothing: there is no nothing"),
        (3, ["evaluate", out, "--data", made / "bpe", "--device", "cpu"], "prepared with the tokenizer bpe"),
        (2, ["tokenizer", "train", text, "--out", made / "bytes"], "there are files in it already"),
        (2, ["tokenizer", "train", text, "--out", new, "--vocab", 256], "--vocab 256 is out of range"),
        (2, ["tokenizer", "make", text], "the next word must be train"),
        (3, ["tokenizer", "train", write("blank.txt", " \n"), "--out", new], "there is no text to train on"),
    ):  # fmt: skip
        error = run(*words, code=code)
        assert message in error, words
    assert [*map(snapshot, kept)] == before and not new.exists()


@pytest.mark.slow
def test_transformers_gives_the_same_ids_for_the_export_of_a_run(runs, tmp_path):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    folder, _ = runs("bpe")
    run("export", folder, tmp_path / "hf")
    ours = resolve_weights(folder).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    texts = [*LINES, *round_trips.nasty_strings(200, seed=5)]
    assert [theirs(text)["input_ids"] for text in texts] == [ours.encode_prompt(text) for text in texts]
    assert theirs.decode(ours.encode(TEXT)) == TEXT and theirs.eos_token_id == ours.end
    write = transformers.pipeline("text-generation", str(tmp_path / "hf"), device="cpu")
    (expected,) = write("The fox", max_new_tokens=5, do_sample=False)
    words = ["--prompt", "The fox", "--max-new-tokens", 5, "--temperature", 0, "--device", "cpu"]
    assert run("sample", folder, *words).removesuffix("\n") == expected["generated_text"]
    assert resolve_weights(tmp_path / "hf").tokenizer == ours
    for tokenizer in (ByteTokenizer(), *(CharTokenizer.of(texts, has_end) for has_end in (False, True))):
        round_trips.check(tokenizer, texts, transformers=True)
