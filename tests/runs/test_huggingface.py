"""Weights in and out; equality with PyTorch's GPT-2, where PyTorch is installed."""

import dataclasses
import functools
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.configs import CONFIGS, GPT2Config
from jaxgpt.models.gpt2 import GPT2, hf_names
from jaxgpt.objectives.classification import label_logits
from jaxgpt.objectives.preferences import rewards_of
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.huggingface import load, load_hf, save_hf
from jaxgpt.runs.progress import Run
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state, init_state_from, train_step
from tests.support import golden
from tests.support.losses import NEXT_TOKEN, mean_loss
from tests.support.models import new_model, random_model
from tests.support.trees import snapshot


def make(config, seed=0):
    return new_model(config, jax.random.key(seed))


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture
def saved(tiny, tmp_path):
    """A folder that save_hf wrote, and its tensors by name."""
    save_hf(make(tiny), tmp_path / "hf")
    return tmp_path / "hf", load_file(tmp_path / "hf" / "model.safetensors")


def write(folder, tensors):
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# ---- Out and in


def test_what_is_saved_is_loaded_to_the_bit(tiny, saved):
    assert equal(load_hf(saved[0]), make(tiny))
    config = json.loads((saved[0] / "config.json").read_text())
    assert (config["vocab_size"], config["n_positions"], config["eos_token_id"]) == (61, 16, None)


def test_the_names_are_those_that_pytorch_gave_its_weights():
    stored = {name.removeprefix("weight:") for name in np.load(golden.STORED) if name.startswith("weight:")}
    like = jax.eval_shape(lambda: GPT2(golden.CONFIG, jax.random.key(0)))
    assert {
        name for path, _ in jax.tree_util.tree_leaves_with_path(like) for name in hf_names(path, golden.CONFIG)
    } == stored


def test_each_tensor_is_where_its_name_says(tiny, saved):
    model, tensors = load_hf(saved[0]), saved[1]
    assert np.array_equal(tensors["transformer.wpe.weight"], model.wpe.embedding[...])
    assert np.array_equal(tensors["transformer.h.2.mlp.c_fc.weight"], model.h.mlp.c_fc.kernel[...][2])
    assert np.array_equal(tensors["transformer.h.0.attn.c_attn.bias"], model.h.attn.c_attn.bias[...][0])
    assert np.array_equal(tensors["transformer.h.1.ln_2.weight"], model.h.ln_2.scale[...][1])
    assert len(tensors) == 4 + 12 * tiny.n_layer


def test_the_older_layout_is_read_too(saved):
    """That of OpenAI's models on the hub: no prefix, causal masks among the weights; here also the tied head."""
    folder, tensors = saved
    model = load_hf(folder)
    old = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    old |= {f"h.{layer}.attn.bias": np.ones((1, 1, 16, 16), np.float32) for layer in range(3)}
    old |= {f"h.{layer}.attn.masked_bias": np.array(-1e4, np.float32) for layer in range(3)}
    old["lm_head.weight"] = old["wte.weight"]
    write(folder, old)
    assert equal(load_hf(folder), model)
    old["lm_head.weight"] = old["wte.weight"] + 1
    write(folder, old)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from wte\.weight"):
        load_hf(folder)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "inside"])
def test_names_of_a_wrapped_model_are_read(saved, prefix):
    """PyTorch's compilation, and its parallel training of a whole model or of each block, put these into names."""
    folder, tensors = saved
    model = load_hf(folder)
    if prefix == "inside":
        wrapped = {name.replace(".attn.", "._fsdp_wrapped_module._orig_mod.attn."): t for name, t in tensors.items()}
    else:
        wrapped = {prefix + name: value for name, value in tensors.items()}
    write(folder, wrapped)
    assert equal(load_hf(folder), model)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(saved, dtype):
    folder, tensors = saved
    write(folder, {name: value.astype(dtype) for name, value in tensors.items()})
    model = load_hf(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype("float32")}
    expected = tensors["transformer.wte.weight"].astype(dtype).astype(np.float32)
    assert np.array_equal(model.wte.embedding[...], expected)


def test_how_it_computes_is_the_callers_choice(tiny, saved):
    model = load_hf(saved[0], dtype="bfloat16", unroll=3, pad_vocab_to_multiple_of=128)
    expected = dataclasses.replace(tiny, dtype="bfloat16", unroll=3, pad_vocab_to_multiple_of=128)
    assert model.config == expected
    assert jax.tree.structure(model) == jax.tree.structure(jax.eval_shape(lambda: GPT2(expected, jax.random.key(0))))
    assert equal(model, make(expected))  # the padding is 0 in both


def test_padding_is_not_saved(tiny, saved, tmp_path):
    save_hf(make(dataclasses.replace(tiny, pad_vocab_to_multiple_of=128)), tmp_path / "padded")
    padded = load_file(tmp_path / "padded" / "model.safetensors")
    assert {name: value.tobytes() for name, value in padded.items()} == {
        name: value.tobytes() for name, value in saved[1].items()
    }


def test_a_folder_with_files_is_not_written_to(tiny, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="there are files in it already"):
        save_hf(make(tiny), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["mine.txt"]


def test_a_refusal_of_another_models_folder_writes_nothing_beside_it(tiny, tmp_path):
    save_hf(make(tiny), tmp_path / "model")
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="there are files in it already"):
        save_hf(make(dataclasses.replace(tiny, n_layer=1)), tmp_path / "model")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("multiple", [1, 128])
def test_a_run_gives_the_model_of_its_newest_checkpoint(tiny, tmp_path, multiple):
    config = dataclasses.replace(tiny, vocab_size=50257, pad_vocab_to_multiple_of=multiple)
    tx = make_optimizer(OptimizerConfig(), 1e-3)
    about = {"B": 1, "T": 1, "steps": 1, "accumulate": 1, "identity": {}}
    with Checkpoints(tmp_path / "run" / "checkpoints", about=about) as checkpoints:
        for step in (1, 2):
            state = init_state(jax.random.key(step), config=config, tx=tx)
            checkpoints.save(Run(state, step))
    (tmp_path / "run" / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    before = {str(path) for path in tmp_path.rglob("*")}
    model = load(resolve_weights(tmp_path / "run"))
    assert jax.tree.structure(model) == jax.tree.structure(state.model)
    assert equal(model, state.model)
    plain = load(resolve_weights(tmp_path / "run"), pad_vocab_to_multiple_of=1)
    assert plain.config == dataclasses.replace(config, pad_vocab_to_multiple_of=1)
    assert np.array_equal(plain.wte.embedding[...], state.model.wte.embedding[:50257])
    assert {str(path) for path in tmp_path.rglob("*")} == before
    with pytest.raises(CheckpointError, match=r"a run folder, not a model in Hugging Face's layout"):
        load_hf(tmp_path / "run")


def test_a_run_without_a_checkpoint(tiny, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(tiny)))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no checkpoint there yet; a run writes one every --save-every steps"):
            load(resolve_weights(tmp_path))
        if (tmp_path / "checkpoints").exists():
            (tmp_path / "checkpoints").rmdir()  # as where somebody has deleted them


# ---- Wrong files


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda t: t.pop("transformer.h.1.mlp.c_fc.bias"), "tensor transformer.h.1.mlp.c_fc.bias is missing; copy"),
        (lambda t: [t.pop(n) for n in list(t) if "h.2." in n], "h.2.attn.c_attn.bias is missing, and 11 more"),
        (
            lambda t: t.update({"other.weight": np.ones(3, np.float32)}),
            "tensor other.weight is not GPT-2's; it is another model's",
        ),
        (lambda t: t.update({"wpe.weight": t["transformer.wpe.weight"]}), "wpe.weight is there twice"),
        (
            lambda t: t.update({"transformer.h.1.ln_1.bias": np.full(20, np.nan, np.float32)}),
            "model.safetensors: tensor transformer.h.1.ln_1.bias has numbers that are not finite",
        ),
        (
            lambda t: t.update({"transformer.h.0.ln_1.bias": np.full(20, 1e200)}),
            "tensor transformer.h.0.ln_1.bias has numbers that are not finite",
        ),
        (
            lambda t: t.update({"transformer.wpe.weight": np.ones((17, 20), np.float32)}),
            "model.safetensors: tensor transformer.wpe.weight has shape (17, 20), and by config.json it has (16, 20)",
        ),
        (
            lambda t: t.update({"transformer.ln_f.bias": np.ones(20, np.int8)}),
            "tensor transformer.ln_f.bias is I8; F64, F32, F16, BF16 are read",
        ),
    ],
)
def test_a_wrong_tensor_is_named(saved, spoil, message):
    folder, tensors = saved
    spoil(tensors)
    write(folder, tensors)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_hf(folder)


PEAK = """
import sys
import jax
from jaxgpt.runs.huggingface import load_hf

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10

load_hf(sys.argv[1])  # what every load needs once
before = peak()
model = load_hf(sys.argv[2])
size = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
print(peak() - before, size)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_the_memory_of_the_model_and_one_tensor(tiny, tmp_path):
    config = GPT2Config(vocab_size=10_000, block_size=64, n_layer=10, n_head=4, n_embd=512)
    for name, each in {"small": tiny, "large": config}.items():
        save_hf(make(each), tmp_path / name)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    grown, size = map(int, done.stdout.split())
    assert size > 140e6
    assert grown < size + 10_000 * 512 * 4 + 8e6  # the largest tensor, and what an allocator may waste


# ---- The same numbers as PyTorch's GPT-2, on shapes with nothing even about them

SHAPES = [
    pytest.param(GPT2Config(vocab_size=101, block_size=64, n_layer=1, n_head=1, n_embd=7), marks=pytest.mark.slow),
    GPT2Config(vocab_size=997, block_size=100, n_layer=3, n_head=3, n_embd=39),
    pytest.param(GPT2Config(vocab_size=1543, block_size=512, n_layer=2, n_head=7, n_embd=147), marks=pytest.mark.slow),
]


def pytorch_loss(model, x, y):
    import torch

    logits = model(torch.tensor(x, dtype=torch.long)).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y, dtype=torch.long).flatten())


@pytest.mark.parametrize("config", SHAPES, ids=lambda config: f"{config.n_head}x{config.n_embd}")
def test_logits_gradients_and_ten_steps_are_pytorchs(config, tmp_path):
    theirs = golden.pytorch_model(config)
    import torch

    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs")

    T = min(config.block_size, 160)
    batches = np.random.default_rng(0).integers(0, config.vocab_size, (10, 2, T + 1), dtype=np.int32)
    x, y = batches[0, :, :-1], batches[0, :, 1:]

    # Logits, over the whole of the context.
    idx = np.random.default_rng(1).integers(0, config.vocab_size, (1, config.block_size), dtype=np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(idx, dtype=torch.long)).logits.numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(ours, idx), expected, atol=1e-4)

    # Gradients of every tensor, relative to its largest.
    pytorch_loss(theirs, x, y).backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    found = jax.jit(jax.grad(mean_loss))(ours, {"tokens": x, "targets": y})
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        names = hf_names(path, config)
        for name, ours_now in zip(names, leaf if ".h." in jax.tree_util.keystr(path) else [leaf], strict=True):
            expected = gradients.pop(name)
            np.testing.assert_allclose(ours_now, expected, atol=1e-4 * np.abs(expected).max(), rtol=0, err_msg=name)
    assert not gradients

    # Ten steps of AdamW.
    theirs.zero_grad()
    optimizer, tx = torch.optim.AdamW(theirs.parameters(), lr=1e-3), make_optimizer(OptimizerConfig(), 1e-3)
    step, state, losses = (
        jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx)),
        init_state_from(ours, tx=tx),
        [],
    )
    for rows in batches[[0, 1] * 5]:
        loss = pytorch_loss(theirs, rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state, metrics = step(state, {"tokens": rows[:, :-1], "targets": rows[:, 1:]})
        losses.append((float(metrics["loss"]), loss.item()))
    assert losses[-2][1] < losses[0][1] - 0.01
    np.testing.assert_allclose(*zip(*losses, strict=True), atol=1e-4)


def test_a_tensor_goes_through_unchanged(tmp_path):
    golden.pytorch_model(SHAPES[1]).save_pretrained(tmp_path / "theirs")
    save_hf(load_hf(tmp_path / "theirs"), tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert {name: value.tobytes() for name, value in ours.items()} == {
        name: value.tobytes() for name, value in theirs.items()
    }


def test_a_model_trained_here_is_the_same_in_transformers(tmp_path, batch):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    from jaxgpt.inference.generate import generate

    config = GPT2Config(vocab_size=61, block_size=64, n_layer=3, n_head=2, n_embd=20, pad_vocab_to_multiple_of=64)
    tx = make_optimizer(OptimizerConfig(), 1e-2)
    step = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx))
    state = init_state(jax.random.key(0), config=config, tx=tx)
    for _ in range(30):
        state, metrics = step(state, batch)
    assert metrics["loss"] < 2
    save_hf(state.model, tmp_path / "ours")
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    x = np.asarray(batch["tokens"])
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(x, dtype=torch.long)).logits.numpy()
        text = theirs.generate(
            torch.tensor(x[:, :5], dtype=torch.long),
            attention_mask=torch.ones((2, 5), dtype=torch.long),
            max_new_tokens=50,
            do_sample=False,
            pad_token_id=0,
        )
    np.testing.assert_allclose(state.model(x)[..., :61], logits, atol=1e-5)
    assert generate(state.model, x[:, :5].tolist(), 50, temperature=0) == text[:, 5:].tolist()


# ---- A head for labels


@pytest.fixture
def labelled(tiny, tmp_path):
    """A model with a head for three labels, and the folder that save_hf wrote of it."""
    model = make(dataclasses.replace(tiny, n_labels=3, pad_vocab_to_multiple_of=64))
    save_hf(model, tmp_path / "labelled", labels=("bad", "good", "so-so"))
    return model, tmp_path / "labelled"


def test_a_head_for_labels_is_saved_with_their_names(labelled):
    model, folder = labelled
    tensors, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    assert np.array_equal(tensors["score.weight"], np.asarray(model.score.kernel[...]).T)
    assert tensors["score.weight"].shape == (3, 20) and "transformer.score.weight" not in tensors
    assert config["architectures"] == ["GPT2ForSequenceClassification"] and config["num_labels"] == 3
    assert config["id2label"] == {"0": "bad", "1": "good", "2": "so-so"}
    assert config["label2id"] == {"bad": 0, "good": 1, "so-so": 2}
    assert resolve_weights(folder).labels == ("bad", "good", "so-so")
    save_hf(load_hf(folder), folder.parent / "again", labels=("bad", "good", "so-so"))
    for name in ("model.safetensors", "config.json"):
        assert (folder.parent / "again" / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(ValueError, match="zip"):
        save_hf(model, folder.parent / "other", labels=("bad", "good"))


def test_a_head_for_labels_is_the_same_in_transformers(labelled):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    model, folder = labelled
    load_theirs = transformers.GPT2ForSequenceClassification.from_pretrained
    theirs, report = load_theirs(folder, output_loading_info=True)
    assert not any(report.values()), report
    last = np.array([9, 3, 1, 15], np.int32)
    x = np.random.default_rng(0).integers(0, 60, (4, 16), dtype=np.int32)
    x[np.arange(16) > last[:, None]] = 0  # as examples.py fills up
    x[range(4), last], x[1, 2] = 60, 0  # what ends a text; a 0 before it is part of the text
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(x, dtype=torch.long)).logits.numpy()
    assert logits.shape == (4, 3) and np.ptp(logits) > 0.1
    np.testing.assert_allclose(jax.jit(label_logits)(model, x, last), logits, atol=1e-5)


@pytest.mark.parametrize("arch", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_a_reward_is_the_same_in_transformers_and_comes_back(arch, tiny, tmp_path):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    shape = {name: getattr(tiny, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    model = random_model(dataclasses.replace(CONFIGS[arch](**shape), n_labels=1))
    save_hf(model, tmp_path / "hf", labels=("reward",))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    x = np.random.default_rng(0).integers(1, 60, (3, 2, 16), dtype=np.int32)
    last = np.array([[9, 3], [1, 15], [15, 8]], np.int32)
    with torch.no_grad():
        logits = [theirs(torch.tensor(row[: end + 1][None]).long()).logits.item()
                  for row, end in zip(x.reshape(6, 16), last.ravel(), strict=True)]  # fmt: skip
    assert theirs.config.num_labels == 1 and np.ptp(logits) > 0.1
    assert type(theirs).__name__ == {"gpt2": "GPT2", "llama": "Llama"}[arch] + "ForSequenceClassification"
    source = resolve_weights(tmp_path / "hf")
    rewards = jax.jit(rewards_of)(load(source), {"tokens": x, "last": last, "start": np.ones(3, np.int32)})
    np.testing.assert_allclose(rewards.reshape(6), logits, atol=1e-5)
    assert source.is_reward and equal(load(source), model)


def test_adapters_for_their_own_weights_are_refused(tiny, tmp_path):
    shape = {name: getattr(tiny, name) for name in ("vocab_size", *tiny.shape)}
    for name, base in (("a", "a"), ("b", "c"), ("c", "b")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        flags = shape | {"lora": 2, "base": str(tmp_path / base)}
        (tmp_path / name / "config.json").write_text(json.dumps(flags))
    for name in "ab":
        with pytest.raises(CheckpointError, match="names the run itself as its base weights; restore it"):
            load(resolve_weights(tmp_path / name))
