"""What every architecture promises: its file, packed documents, text with a cache, runs that resume, meshes."""

import contextlib
import dataclasses
import io
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.inference.generate import generate
from jaxgpt.inference.sampling import make_sampling_params, prompt_keys, sample_token
from jaxgpt.models.base import architecture, next_token_logits, shapes, unembed
from jaxgpt.models.configs import CONFIGS, BertConfig, GatedCNNConfig, GriffinConfig, LlamaConfig
from jaxgpt.objectives import OBJECTIVES
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.resume import load_run_config, resume_command
from tests.support.models import new_model, spread_model


@pytest.mark.parametrize("arch", CONFIGS)
def test_a_config_makes_the_model_of_its_file(arch):
    """A Model: float32 parameters, its config, and logits of what `hidden` gives; it can be asked for shapes alone."""
    config = CONFIGS[arch](vocab_size=61, block_size=16, n_layer=2, n_embd=24, pad_vocab_to_multiple_of=8)
    model = new_model(config, jax.random.key(0))
    assert isinstance(model, architecture(config).MODEL) and model.config == config
    like = shapes(config)
    assert jax.tree.structure(like) == jax.tree.structure(model)
    assert [leaf.shape for leaf in jax.tree.leaves(like)] == [leaf.shape for leaf in jax.tree.leaves(model)]
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model)} == {"float32"}
    x = hidden(model, np.zeros((2, 7), np.int32))
    C = 24 + 8 * config.bidirectional  # an encoder has columns for the bias of its logits
    assert x.shape == (2, 7, C) and model.unembedding().shape == (64, C)
    logits = np.asarray(unembed(model, x))
    expected = np.asarray(x) @ np.asarray(model.unembedding()).T
    if cap := config.logits_soft_cap:
        expected = cap * np.tanh(expected / cap)
    np.testing.assert_allclose(logits[..., :61], expected[..., :61], atol=1e-5)
    assert np.isneginf(logits[..., 61:]).all()


def test_configs_do_not_import_jax():
    code = "import sys, jaxgpt.models.configs; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- Of the architectures beside GPT-2, which has tests of its own

SMALL = {"vocab_size": 61, "block_size": 16}
SMALL_CONFIGS = {
    "bert": BertConfig(**SMALL, n_layer=2, n_head=2, n_embd=20, intermediate_size=28, position_offset=2),
    "gated_cnn": GatedCNNConfig(**SMALL, n_layer=3, n_embd=20, kernel_size=4, bottleneck=12),
    "griffin": GriffinConfig(
        **SMALL,
        n_layer=3,
        pattern="ra",
        n_head=2,
        n_embd=20,
        intermediate_size=28,
        lru_width=12,
        window=6,
        untied_head=True,
    ),
    "llama": LlamaConfig(
        **SMALL, n_layer=2, n_head=4, n_kv_head=2, head_size=6, n_embd=20, intermediate_size=28, untied_head=True
    ),
}


@pytest.fixture(params=["gated_cnn", "llama", pytest.param("griffin", marks=pytest.mark.slow)])
def arch(request):
    return request.param


ONE_FAST = ["gated_cnn", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("griffin", "llama"))]


hidden = jax.jit(lambda model, tokens, positions=None: model.hidden(tokens, positions))


@jax.jit
def next_logits(model, tokens, length):
    """Of the token behind the first `length` of one text, (1, V)."""
    return next_token_logits(model, model.hidden(tokens)[:, length - 1])


sample = jax.jit(sample_token)


def tokens_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 61, shape, dtype=np.int32)


@pytest.mark.parametrize("arch", ["bert", "gated_cnn", "llama", pytest.param("griffin", marks=pytest.mark.slow)])
def test_packed_documents_are_the_separate_ones(arch):
    """Hidden to the bit where the shapes are the same and each sum is over the same places; the rest to rounding."""
    model = spread_model(SMALL_CONFIGS[arch])
    lengths = [5, 1, 7, 3]
    x = tokens_of((1, 16))
    positions = np.concatenate([np.arange(n) for n in lengths])[None].astype(np.int32)
    starts = np.cumsum([0, *lengths[:-1]])
    alone, in_order = np.zeros((2, 4, 16), np.int32)
    for row, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        alone[row, :n] = x[0, start : start + n]
        in_order[row] = [*range(n), *range(16 - n)]  # the padding is a document of its own
    packed = np.asarray(hidden(model, np.repeat(x, 4, axis=0), np.repeat(positions, 4, axis=0)))
    separate = np.asarray(hidden(model, alone, in_order))
    for row, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        exact = arch == "gated_cnn"  # attention has zeros in other places
        np.testing.assert_allclose(packed[0, start : start + n], separate[row, :n], rtol=0, atol=0 if exact else 1e-5)

    y = tokens_of((1, 16), seed=1)
    y[:, ::5] = -1
    of_alone = np.full((4, 16), -1, np.int32)
    for row, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        of_alone[row, :n] = y[0, start : start + n]
    slope = jax.jit(
        jax.value_and_grad(lambda model, batch: OBJECTIVES["completion"].loss(model, batch)["loss"], has_aux=True)
    )
    (a, count), grads = slope(model, {"tokens": x, "targets": y, "positions": positions})
    (b, others), of_separate = slope(model, {"tokens": alone, "targets": of_alone, "positions": in_order})
    assert count == others == (y >= 0).sum()
    np.testing.assert_allclose(a, b, rtol=1e-6)
    for found, expected in zip(jax.tree.leaves(grads), jax.tree.leaves(of_separate), strict=True):
        # The slope of a BERT's key biases is 0, and what is found of it rounding.
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(np.abs(expected).max(), 1e-2))


PROMPTS = [[5], [1, 2, 3], [60, 0, 7, 7, 9, 30, 31], list(range(16)), [9] * 11]


def without_a_cache(model, prompt, max_new_tokens, sampling, key):
    """One token at a time, the whole context anew for each; a full one loses its older half."""
    room, context, new = model.config.block_size, list(prompt), []
    keys = jax.random.wrap_key_data(prompt_keys(key, [prompt]))
    for made in range(max_new_tokens):
        if len(context) > room:
            context = context[-(room // 2) :]
        x = np.array([context + [0] * (room - len(context))], np.int32)
        logits = next_logits(model, x, len(context))
        new.append(int(sample(logits, sampling, keys, np.array([made]))[0]))
        context.append(new[-1])
    return new


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_the_text_is_that_without_a_cache(arch, temperature):
    """Prompts of other lengths, all at once, through contexts that are full several times."""
    model = spread_model(SMALL_CONFIGS[arch], spread=0.3)
    key, sampling = jax.random.key(3), make_sampling_params(temperature, top_k=20)
    expected = [without_a_cache(model, prompt, 30, sampling, key) for prompt in PROMPTS]
    assert len({tuple(text) for text in expected}) >= len(PROMPTS) - 1 and min(map(len, map(set, expected))) > 4
    assert generate(model, PROMPTS, 30, key, temperature, top_k=20) == expected


@pytest.mark.parametrize("arch", ONE_FAST)
def test_a_prompt_of_many_reads_gives_the_text_that_it_gives_alone(arch):
    """Some are read to the end when others are not yet: what is behind a text must not come into its cache."""
    model = spread_model(dataclasses.replace(SMALL_CONFIGS[arch], block_size=150), spread=0.3)
    prompts = [tokens_of(n, seed=n).tolist() for n in (1, 31, 32, 33, 64, 100, 140)]
    together = generate(model, prompts, 20, temperature=0)
    assert together == [without_a_cache(model, p, 20, make_sampling_params(0), jax.random.key(0)) for p in prompts]


# ---- Training

FLAGS = {
    "gated_cnn": "--bottleneck 8 --kernel-size 3",
    "griffin": "--pattern ra --logits-soft-cap 0 --n-head 2 --intermediate-size 24 --lru-width 8 --window 5",
    "llama": "--n-head 2 --n-kv-head 1 --head-size 4 --intermediate-size 24 --qk-norm --rope-scaling 4,1,4,8",
}
ALL_FLAGS = ["--n-layer", "2", "--n-embd", "16", "--B", "8", "--T", "16", "--lr", "1e-2", "--data", "text.txt"]
ALL_FLAGS += ["--order", "shuffled", "--dropout", "0.1", "--val", "0.1", "--hash-every", "1"]
IN_WORDS = {
    "gated_cnn": "2 layers, width 16, bottleneck 8, kernels of 3 tokens",
    "griffin": "2 layers, pattern ra, 2 heads, 1 of keys and values, window 5, width 16, recurrence 8, perceptron 24",
    "llama": "2 layers, 2 heads of 4, 1 of keys and values, width 16, perceptron 24",
}


@pytest.fixture(params=ONE_FAST)
def runs(eight_devices, once, request):
    """The architecture, and the folder of three runs: 8 steps; 4 and then 4 more; 8 steps on a mesh."""
    arch = request.param

    def make(folder):
        (folder / "text.txt").write_text(" ".join(f"word{n % 37} and {n}" for n in range(600)))
        for out, steps, mesh in (("whole", 8, "data=1"), ("parts", 4, "data=1"), ("parts", 8, "data=1"),
                                 ("mesh", 8, "data=2,fsdp=4")):  # fmt: skip
            words = [
                "--arch",
                arch,
                *FLAGS[arch].split(),
                *ALL_FLAGS,
                "--out",
                out,
                "--steps",
                str(steps),
                "--mesh",
                mesh,
            ]
            with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
                patch.chdir(folder)
                assert console.run(train.main, words) == 0
            assert IN_WORDS[arch] in printed.getvalue()

    return arch, once(f"runs-{arch}", make)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_four_steps_and_four_more_are_eight(runs):
    """To the bit: every loss, and after every step the fingerprint of all weights and moments."""
    whole, parts = rows_of(runs[1] / "whole"), rows_of(runs[1] / "parts")
    names = ("step", "position", "loss", "grad_norm", "state")
    assert [[row[name] for name in names] for row in whole] == [[row[name] for name in names] for row in parts]
    assert whole[-1]["val_loss"] == parts[-1]["val_loss"] and len(whole) == 8
    assert whole[-1]["loss"] < whole[0]["loss"] - 0.5


def test_a_mesh_changes_no_loss(runs):
    for row, other in zip(rows_of(runs[1] / "whole"), rows_of(runs[1] / "mesh"), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_a_run_is_found_loaded_and_written_with(runs):
    arch, folder = runs
    source = resolve_weights(folder / "whole")
    config, _ = load_run_config(folder / "whole")
    assert source.config.arch == arch and IN_WORDS[arch] == str(source.config)
    assert config.model_config() == dataclasses.replace(source.config, dropout=0.1)
    again = resume_command(config)
    assert f"--arch {arch}" in again and FLAGS[arch].split(" --")[-1] in again and "--vocab-size" not in again
    (text,) = generate(load(source), [[50256]], 5, temperature=0)
    assert len(text) == 5
    given = TrainConfig.from_preset(Preset(init_from="x"), source.config)
    assert (given.preset.arch, given.model_config()) == (arch, source.config)
