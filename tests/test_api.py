"""jaxgpt in a notebook: text in, text out, by the functions below; and what `import jaxgpt` brings."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxgpt
from jaxgpt import api, console
from jaxgpt.commands import sample
from jaxgpt.data import loader
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.inference.generate import generate
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import save_hf

CONFIG = GPT2Config(block_size=32, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "hf"
    shapes = jax.eval_shape(lambda: GPT2(CONFIG, jax.random.key(0)))
    rng = np.random.default_rng(0)
    save_hf(jax.tree.map(lambda leaf: jax.device_put(0.2 * rng.normal(size=leaf.shape).astype("f4")), shapes), path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return jaxgpt.load(folder)


def test_importing_the_package_brings_no_library():
    code = "import sys, jaxgpt; names = {*dir(jaxgpt)} >= {*jaxgpt.__all__}\n"
    code += "before = sorted({'jax', 'numpy'} & {*sys.modules}); jaxgpt.next_batch\n"
    code += "print(names, before, 'numpy' in sys.modules, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True [] True False\n", done.stderr


def test_its_names_are_those_it_lists():
    assert jaxgpt.next_batch is loader.next_batch and all(hasattr(jaxgpt, name) for name in jaxgpt.__all__)
    with pytest.raises(AttributeError, match="module 'jaxgpt' has no attribute 'nonsense'"):
        _ = jaxgpt.nonsense


def test_what_is_loaded_is_placed(folder, tmp_path):
    assert jaxgpt.load(str(folder), device="cpu", dtype="float32").config.dtype == "float32"
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        jaxgpt.load(tmp_path / "nowhere")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"block_size": 64, "objective": "labels", "labels": ["no", "yes"]}')
    with pytest.raises(CheckpointError, match="run: predicts labels, and writes no text; see "):
        jaxgpt.load(tmp_path / "run")


def test_a_text_is_continued_as_the_command_does(folder, model, capsys):
    text = jaxgpt.generate(model, "Hello there", max_new_tokens=9, seed=5)
    assert (
        console.run(sample.main, [str(folder), "--prompt", "Hello there", "--max-new-tokens", "9", "--seed", "5"]) == 0
    )
    assert capsys.readouterr().out == f"Hello there{text}\n"


def test_texts_and_token_ids_come_back_as_they_went_in(model):
    ids = encoding().encode("Hello there")
    flags = {"temperature": 0.9, "top_k": 7, "top_p": 0.8}
    first, second = generate(model, [ids, [5, 6]], 6, jax.random.key(3), **flags, stop=50256)
    flags |= {"max_new_tokens": 6, "seed": 3}
    assert jaxgpt.generate(model, ["Hello there", [5, 6]], **flags) == [encoding().decode(first), second]
    assert jaxgpt.generate(model, ids, **flags) == first == jaxgpt.generate(model, np.array(ids), **flags)
    assert jaxgpt.generate(model, ["Hello there"], **flags) == [encoding().decode(first)]
    assert jaxgpt.generate(model, "Hello there", **flags) == encoding().decode(first)


def log_likelihood(model, context, ids):
    """With the logits of the whole model, in float64."""
    logits = np.asarray(model(np.array([[*context, *ids]], np.int32)), np.float64)[0]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(log_p[len(context) + i - 1, token] for i, token in enumerate(ids))


def test_a_score_is_the_sum_of_all_tokens_log_probabilities(model):
    ids, more = encoding().encode("The sky is"), encoding().encode(" blue today")
    found = jaxgpt.score(model, "The sky is")
    assert isinstance(found, float) and found == pytest.approx(log_likelihood(model, [50256], ids), abs=1e-4)
    after = log_likelihood(model, ids, more)
    assert jaxgpt.score(model, " blue today", context="The sky is") == pytest.approx(after, abs=1e-4)
    both = jaxgpt.score(model, [" blue today", more], context=ids)
    assert both == [pytest.approx(after, abs=1e-4)] * 2 and isinstance(both, list)
    assert jaxgpt.score(model, "The sky is blue today") == pytest.approx(
        found + jaxgpt.score(model, more, context=[50256, *ids]), abs=1e-4
    )


def test_another_tokenizer_is_named(folder, tiny):
    assert jaxgpt.load_tokenizer(folder) == GPT2_TOKENIZER
    model = jax.eval_shape(lambda: GPT2(tiny, jax.random.key(0)))  # of 61 ids
    chars = CharTokenizer("".join(map(chr, range(61))))
    assert api._encode(model, chars, "\x02\x00") == [2, 0]
    assert api._encode(model, CharTokenizer("ab"), "ba") == [1, 0]  # the model may have more
    with pytest.raises(UsageError, match=r"bytes has 257 token ids, and the model 61; .* tokenizer=jaxgpt\.load_tok"):
        api._encode(model, ByteTokenizer(), "a")


def test_what_can_not_be_is_one_line(folder, model, tiny):
    for call in (
        lambda: jaxgpt.generate(model, []),
        lambda: jaxgpt.generate(model, ""),
        lambda: jaxgpt.generate(model, "a " * 40),
        lambda: jaxgpt.generate(model, "a", temperature=-1),
        lambda: jaxgpt.score(model, ""),
        lambda: jaxgpt.score(model, "a", context=""),
        lambda: jaxgpt.score(model, "a " * 40),
        lambda: jaxgpt.score(model, b"a text"),
        lambda: jaxgpt.generate(model, {"input_ids": [[1, 2]]}),
        lambda: jaxgpt.generate(model, [b"a text", "another"]),
        lambda: jaxgpt.load(folder, device="cuda:0"),
        lambda: jaxgpt.load(folder, dtype="float16"),
    ):
        with pytest.raises(UsageError) as error:
            call()
        assert "\n" not in str(error.value)
    other = GPT2(tiny, jax.random.key(0))
    with pytest.raises(UsageError, match="50,257 token ids, and the model 61; give token ids"):
        jaxgpt.generate(other, "a text")
    assert len(jaxgpt.generate(other, [3, 4], max_new_tokens=5)) == 5
    assert jaxgpt.score(other, [3, 4], context=[0]) < 0
