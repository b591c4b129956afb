"""Eight devices of one CPU: a mesh changes where a run is, and nothing of what comes out."""

import contextlib
import io
import json

import jax
import pytest

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.errors import UsageError
from jaxgpt.models.layers import SHARDING_RULES
from jaxgpt.runs.fingerprint import combined_fingerprint
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime import device
from jaxgpt.runtime.mesh import (
    batch_sharding,
    choose_axes,
    device_bytes,
    local_rows,
    make_mesh,
    single_device,
    with_shardings,
)
from jaxgpt.runtime.xla import aot
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.setup import build_trainer

WIDTH = 16
FLAGS = ["--n-layer", 1, "--n-head", 2, "--n-embd", WIDTH, "--block-size", 32, "--T", 4, "--lr", 1e-2]


def run(folder, out, *words):
    """A run in this process: its rows, what it prints, and the tokens of each of its batches."""
    seen, printed, put = [], io.StringIO(), device.put

    def counted(batch, to):
        seen.append(batch["tokens"].tobytes().hex())
        return put(batch, to=to)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(device, "put", counted)
        patch.chdir(folder)
        code = console.run(train.main, [str(word) for word in (*words, "--out", out)])
    assert code == 0, printed.getvalue()
    rows = [json.loads(line) for line in (folder / out / "log.jsonl").read_text().splitlines()]
    return {"rows": rows, "out": printed.getvalue(), "seen": seen}


# Two steps of each, one after the other.
CHAIN = {
    "data=2,fsdp=2": ("--B", 4, "--accumulate", 2),
    "data=1": (),
    "data=2,fsdp=4": (),
}


@pytest.fixture
def runs(eight_devices, once):
    """The folder of "one", a run of six steps on one device, and of one that goes from mesh to mesh; their rows."""

    def make(folder):
        (folder / "text.txt").write_text(" ".join(f"word{n % 37} and {n}" for n in range(1200)))
        words = [*FLAGS, "--data", "text.txt", "--B", 8]
        done = {"one": run(folder, "one", *words, "--mesh", "data=1", "--steps", 2 * len(CHAIN))}
        for n, (mesh, more) in enumerate(CHAIN.items()):
            done[mesh] = run(folder, "chain", *words, "--mesh", mesh, *more, "--steps", 2 * n + 2)
        (folder / "done.json").write_text(json.dumps(done))

    folder = once("mesh", make)
    return folder, json.loads((folder / "done.json").read_text())


def same_curve(rows, others):
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert [row[name] for name in ("step", "position")] == [other[name] for name in ("step", "position")]
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_no_mesh_changes_the_tokens_or_the_losses(runs):
    """Nor do two resumes on another one, nor parts of a batch."""
    (one, *chain), names = (runs[1][name] for name in ("one", *CHAIN)), list(CHAIN)
    assert [tokens for part in chain for tokens in part["seen"]] == one["seen"]
    same_curve(chain[-1]["rows"], one["rows"])
    assert one["rows"][-1]["loss"] < one["rows"][0]["loss"] - 0.5  # they had something to differ in
    for n, (name, part) in enumerate(zip(names, chain, strict=True)):
        assert name == "data=1" or f" devices as {name}\n" in part["out"]
        assert n == 0 or f"resumes from step {2 * n}, position {64 * n:,}, to {2 * n + 2} steps" in part["out"]


def on(axes, config, devices):
    return build_trainer(config, make_mesh(axes, devices))


def test_the_first_state_is_the_same_and_each_device_holds_its_share(eight_devices):
    config = TrainConfig.of(n_layer=2, n_head=2, n_embd=WIDTH, block_size=32)
    vectors = 3 * 4 * (2 * 13 * WIDTH + 2 * WIDTH) + 3 * 4  # biases, LayerNorm and counters, which are whole everywhere
    whole, *others = [on(axes, config, eight_devices).init_state(seed=0) for axes in ({}, {"fsdp": 8})]
    others.append(on({"data": 2, "fsdp": 4}, config, eight_devices).init_state(seed=0))

    def held(state):
        shards = (shard for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards)
        return sum(shard.data.nbytes for shard in shards if shard.device == eight_devices[0]) - vectors

    assert {int(combined_fingerprint(state)) for state in others} == {int(combined_fingerprint(whole))}
    assert [held(whole) / held(state) for state in others] == [8, 4]


def test_given_weights_are_placed_and_are_the_same(runs, eight_devices):
    source = resolve_weights(runs[0] / "one")
    config = TrainConfig.from_preset(Preset(init_from=source.name), source.config)
    states = [on(axes, config, eight_devices).init_state(0, source) for axes in ({}, {"fsdp": 8})]
    assert int(combined_fingerprint(states[0])) == int(combined_fingerprint(states[1]))
    assert states[1].model.wte.embedding[...].sharding.shard_shape((50257, WIDTH)) == (50257, WIDTH // 8)


TUNING = ["--T", 12, "--lr", 1e-2, "--steps", 3, "--dropout", 0.2]
VAL = ["--val", 0.2]
ADAPTERS = ["--init-from", "../mesh/one", "--lora", 2, *TUNING]
KINDS = {
    "completions": ([*ADAPTERS, "--data", "completions.jsonl", "--B", 6], ["--mesh", "auto"]),
    "labels": ([*ADAPTERS, "--data", "labels.jsonl", *VAL, "--B", 8], ["--mesh", "data=2,fsdp=4"]),
    "heads": (
        [*FLAGS, *TUNING, *VAL, "--n-layer", 3, "--predict-tokens", 2, "--data", "../mesh/text.txt", "--B", 8],
        ["--mesh", "data=2,fsdp=2", "--B", 4, "--accumulate", 2],
    ),
    "muon": (
        [*FLAGS, "--optimizer", "muon", "--steps", 3, "--lr", 1e-2, "--data", "../mesh/text.txt", "--B", 8],
        ["--mesh", "data=2,fsdp=4"],
    ),
    "judged": (
        [*ADAPTERS, *VAL, "--data", "judged.jsonl", "--objective", "dpo", "--B", 16, "--accumulate", 1],
        ["--mesh", "data=2,fsdp=4", "--B", 8, "--accumulate", 2],
    ),
    "encoder": (
        [*FLAGS, *TUNING, *VAL, "--arch", "bert", "--T", 32, "--data", "../mesh/text.txt", "--B", 8],
        ["--mesh", "data=2,fsdp=2", "--B", 4, "--accumulate", 2],
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("eight_devices")
@pytest.mark.parametrize("kind", KINDS)
def test_examples_adapters_dropout_heads_and_masks_are_the_same_on_a_mesh(kind, runs, once):
    def make(folder):
        completions = [{"prompt": f"word{n}", "completion": f" and {n}, {n + 1}."} for n in range(60)]
        labels = [{"text": f"word{n % 7} and {n}", "label": n % 3} for n in range(60)]
        judged = [{"prompt": f"word{n}", "chosen": f" and {n}.", "rejected": f" or {n}, no"} for n in range(60)]
        for name, records in (("completions", completions), ("labels", labels), ("judged", judged)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    folder, (words, more) = once("mesh-tuned", make), KINDS[kind]
    one = run(folder, f"{kind}-one", *words, "--mesh", "data=1")["rows"]
    other = run(folder, f"{kind}-mesh", *words, *more)
    same_curve(other["rows"], one)
    assert kind in ("completions", "muon") or one[-1]["val_loss_stderr"] > 0
    for number in (
        "val_loss",
        "val_chosen_log_prob",
        "kl",
        "margin",
        "loss_2",
        "loss_sum",
        "val_loss_2",
        "val_accuracy",
    ):
        assert other["rows"][-1].get(number) == pytest.approx(one[-1].get(number), abs=1e-5)
    if kind == "completions":  # by default, as many devices as can share a batch
        assert ": 6 devices as data=6" in other["out"]
        less = "uses 6 of 8 devices: --B 6 is not divisible by more; use a multiple of 8 for all"
        assert less in other["out"]


def test_all_devices_are_on_data_unless_the_state_does_not_fit():
    assert choose_axes(None, B=16, widths={"n_embd": 768}, needed=100, memory=101, devices=8) == {"data": 8}
    assert choose_axes(None, B=16, widths={"n_embd": 768}, needed=100, memory=99, devices=8) == {"fsdp": 8}
    assert choose_axes(None, B=6, widths={"n_embd": 768}, needed=100, memory=101, devices=8) == {"data": 6}
    assert choose_axes(None, B=15, widths={"n_embd": 768}, needed=100, memory=99, devices=8) == {"fsdp": 3}
    assert choose_axes({"data": 2}, B=16, widths={"n_embd": 768}, needed=100, memory=0, devices=8) == {"data": 2}


def test_more_devices_than_there_are(eight_devices):
    with pytest.raises(UsageError, match="--mesh data=2,fsdp=4 needs 8 devices, and there are 1"):
        make_mesh({"data": 2, "fsdp": 4}, eight_devices[:1])


def test_the_last_devices_are_not_used_where_fewer_are_asked_for(h100):
    devices = list(aot.described("h100", {"data": 8})[0].devices.flat)
    assert list(make_mesh({"fsdp": 4}, devices).devices.flat) == devices[:4]


def test_moments_are_where_their_parameters_are(h100):
    mesh = aot.described("h100", {"data": 2, "fsdp": 4})[0]
    state = build_trainer(TrainConfig.of(B=8, n_layer=1), mesh).shapes
    model, (adam, *_) = state.model, state.opt_state
    for moment in (adam.mu, adam.nu):
        assert [x.sharding for x in jax.tree.leaves(moment)] == [x.sharding for x in jax.tree.leaves(model)]
    (wte,), (mlp,), (bias,) = map(jax.tree.leaves, (model.wte, model.h.mlp.c_proj.kernel, model.h.mlp.c_proj.bias))
    assert wte.sharding.shard_shape(wte.shape) == (50257, 192)
    assert mlp.sharding.shard_shape(mlp.shape) == (1, 768, 768)
    assert bias.sharding.is_fully_replicated
    whole = with_shardings(state.model, make_mesh({}, mesh.devices.flat), SHARDING_RULES)
    assert device_bytes(state.model) < device_bytes(whole) / 3.9


def test_sequences_of_this_process():
    class OfTheSecondOfThree:
        def addressable_devices_indices_map(self, shape):
            share = shape[0] // 6
            return {device: (slice(device * share, (device + 1) * share),) for device in (3, 2)}

    assert local_rows(OfTheSecondOfThree(), 12) == slice(4, 8)
    assert local_rows(batch_sharding(single_device()), 12) == slice(0, 12)


@pytest.mark.slow
def test_the_first_state_is_never_whole_on_a_device(h100):
    mesh = aot.described("h100", {"data": 1, "fsdp": 8})[0]
    trainer = build_trainer(TrainConfig.of(B=8), mesh)
    plan = trainer.random_state.lower(0).compile().memory_analysis()
    assert plan.output_size_in_bytes == pytest.approx(device_bytes(trainer.shapes), rel=1e-3)
    assert plan.temp_size_in_bytes < 1.1 * device_bytes(trainer.shapes)


def test_a_rule_is_the_first_whose_word_a_parameter_has(h100):
    """Of any architecture, in whose file the rules are: here of two kernels, one of which stays whole."""
    mesh = aot.described("h100", {"data": 2, "fsdp": 4})[0]
    tree = build_trainer(TrainConfig.of(B=8, n_layer=1), mesh).shapes.model
    rules = {"attn": (None, "float32"), "kernel": (-1, "compute")}
    found = with_shardings(tree, mesh, rules)
    (attn,), (mlp,), (wte,) = map(jax.tree.leaves, (found.h.attn.c_proj.kernel, found.h.mlp.c_proj.kernel, found.wte))
    assert attn.sharding.is_fully_replicated and wte.sharding.is_fully_replicated
    assert mlp.sharding.shard_shape(mlp.shape) == (1, 3072, 192)
