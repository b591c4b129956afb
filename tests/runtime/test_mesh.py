"""Eight devices of one CPU, in a process of their own: JAX has to be told of them before it starts."""

import json
import os
import subprocess
import sys

import jax
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.layers import SHARDING_RULES
from jaxgpt.runtime.mesh import batch_sharding, choose_axes, device_bytes, local_rows, make_mesh, with_shardings
from jaxgpt.runtime.xla import aot
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.setup import build_trainer

MESHES = ("data=1", "data=8", "fsdp=8", "data=2,fsdp=4")
WIDTH = 16
FLAGS = ["--n-layer", "2", "--n-head", "2", "--n-embd", str(WIDTH), "--B", "8", "--T", "16", "--lr", "1e-2"]
FLAGS += ["--data", "text.txt", "--hash-every", "10"]

EIGHT = """
import contextlib, dataclasses, io, json, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np, train
from jaxgpt import console
from jaxgpt.runtime import device
from jaxgpt.runs.fingerprint import combined
from jaxgpt.runtime.mesh import make_mesh
from jaxgpt.training.config import Preset, TrainConfig
from jaxgpt.training.setup import build_trainer

real, seen = device.put, []
def put(batch, to):
    seen.append(batch["tokens"].tobytes().hex())
    return real(batch, to=to)
device.put = put

def run(*words):
    seen.clear()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = console.run(train.main, words)
    return {"code": code, "out": out.getvalue(), "seen": list(seen)}

found = {}
flags = json.loads(sys.argv[2])
for mesh in json.loads(sys.argv[3]):
    found[mesh] = run(*flags, "--mesh", mesh, "--out", mesh, "--steps", "10")
    config = TrainConfig.from_preset(Preset("tiny")).replace(n_embd=int(sys.argv[4]))
    axes = {name: int(size) for name, size in (part.split("=") for part in mesh.split(","))}
    state = build_trainer(config, make_mesh(axes, jax.devices())).init_state(seed=0)
    first = jax.devices()[0]
    held = [s.data.nbytes for x in jax.tree.leaves(state) for s in x.addressable_shards if s.device == first]
    found[mesh] |= {"bytes": sum(held), "state": int(combined(state))}
for steps, mesh in ((2, "data=1"), (4, "fsdp=8"), (6, "data=2"), (8, "data=1"), (10, "data=2,fsdp=4")):
    found[f"elastic {steps}"] = run(*flags, "--mesh", mesh, "--out", "elastic", "--steps", str(steps))
parts = ["--B", "4", "--accumulate", "2", "--mesh", "data=2,fsdp=2", "--out", "parts", "--steps", "10"]
found["parts"] = run(*flags, *parts)
found["auto"] = run(*flags, "--n-layer", "1", "--B", "6", "--out", "auto", "--steps", "1")
found["weights"] = run(*flags, "--init-from", "data=1", "--mesh", "fsdp=8", "--out", "weights", "--steps", "2")
found["more"] = run(*flags, "--init-from", "data=1", "--mesh", "data=1", "--out", "more", "--steps", "2")
tune = ["--init-from", "data=1", "--T", "16", "--steps", "4", "--val", "0.2", "--dropout", "0.2", "--lora", "2"]
for kind in ("pairs", "labels"):
    data = [*tune, "--data", f"{kind}.jsonl", "--lr", "1e-2"]
    found[f"{kind}-one"] = run(*data, "--B", "8", "--mesh", "data=1", "--out", f"{kind}-one")
    found[f"{kind}-eight"] = run(*data, "--B", "8", "--mesh", "data=2,fsdp=4", "--out", f"{kind}-eight")
ahead = ["--n-layer", "3", "--predict-tokens", "2", "--val", "0.2", "--dropout", "0.2", "--steps", "4"]
found["ahead-one"] = run(*flags, *ahead, "--B", "16", "--mesh", "data=1", "--out", "ahead-one")
found["ahead-eight"] = run(*flags, *ahead, "--accumulate", "2", "--mesh", "data=2,fsdp=4", "--out", "ahead-eight")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """What train.py prints and logs on eight devices, by --mesh and for some other runs."""
    folder = tmp_path_factory.mktemp("eight")
    (folder / "text.txt").write_text(" ".join(f"word{n % 37} and {n}" for n in range(1200)))
    pairs = [{"prompt": f"word{n}", "completion": f" and {n}, {n + 1}."} for n in range(60)]
    labels = [{"text": f"word{n % 7} and {n}", "label": n % 3} for n in range(60)]
    for name, records in (("pairs", pairs), ("labels", labels)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    code = [sys.executable, "-c", EIGHT, os.getcwd(), json.dumps(FLAGS), json.dumps(MESHES), str(WIDTH)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": os.getcwd(), "JAXGPT_CACHE": str(folder)}
    done = subprocess.run(code, capture_output=True, text=True, cwd=folder, env=environment, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    for name, run in found.items():
        assert run["code"] == 0, run["out"]
        log = folder / name.split()[0] / "log.jsonl"
        run["rows"] = [json.loads(line) for line in log.read_text().splitlines()]
    return found


def same_curve(rows, others):
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert [row[name] for name in ("step", "position")] == [other[name] for name in ("step", "position")]
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_a_mesh_changes_neither_the_tokens_nor_the_losses(eight, mesh):
    one = eight["data=1"]
    assert eight[mesh]["state"] == one["state"]  # before the first step, to the bit
    assert eight[mesh]["seen"] == one["seen"]
    same_curve(eight[mesh]["rows"], one["rows"])
    assert one["rows"][-1]["loss"] < one["rows"][0]["loss"] - 0.5  # they had something to differ in


def test_parameters_and_moments_on_a_device_are_its_share(eight):
    vectors = 3 * 4 * (2 * 13 * WIDTH + 2 * WIDTH) + 3 * 4  # biases, LayerNorm and counters, which are whole everywhere
    whole = eight["data=1"]["bytes"] - vectors
    assert {mesh: eight[mesh]["bytes"] - vectors for mesh in MESHES} == {
        "data=1": whole,
        "data=8": whole,
        "fsdp=8": whole // 8,
        "data=2,fsdp=4": whole // 4,
    }


def test_a_run_goes_on_with_other_numbers_of_devices(eight):
    """1 -> 8 -> 2 -> 1 -> 8 devices: four resumes."""
    parts = [eight[f"elastic {steps}"] for steps in (2, 4, 6, 8, 10)]
    assert [x for part in parts for x in part["seen"]] == eight["data=1"]["seen"]
    same_curve(parts[-1]["rows"], eight["data=1"]["rows"])
    assert "resumes from step 8, position 1,024, to 10 steps" in parts[-1]["out"]


def test_parts_of_a_batch_on_a_mesh_are_the_batch(eight):
    same_curve(eight["parts"]["rows"], eight["data=1"]["rows"])


def test_given_weights_are_placed_and_are_the_same(eight):
    same_curve(eight["weights"]["rows"], eight["more"]["rows"])


@pytest.mark.parametrize("name", ["pairs-eight", "labels-eight", "ahead-eight"])
def test_examples_adapters_dropout_and_heads_are_the_same_on_a_mesh(eight, name):
    one = eight[f"{name.split('-')[0]}-one"]["rows"]
    same_curve(eight[name]["rows"], one)
    further = ["loss_2", "loss_sum", "val_loss_2"] if name == "ahead-eight" else []
    for number in ["val_loss", *further]:
        assert eight[name]["rows"][-1][number] == pytest.approx(one[-1][number], abs=1e-5)
    assert one[-1]["val_loss_stderr"] > 0


def test_by_default_as_many_devices_as_can_share_a_batch(eight):
    out = eight["auto"]["out"]
    assert ": 6 devices as data=6" in out
    assert "6 of 8 devices are used: --B 6 has no equal shares for more; use a multiple of 8 for all" in out


def test_all_devices_are_on_data_unless_the_state_does_not_fit():
    assert choose_axes(None, B=16, widths={"n_embd": 768}, needed=100, memory=101, devices=8) == {"data": 8}
    assert choose_axes(None, B=16, widths={"n_embd": 768}, needed=100, memory=99, devices=8) == {"fsdp": 8}
    assert choose_axes(None, B=6, widths={"n_embd": 768}, needed=100, memory=101, devices=8) == {"data": 6}
    assert choose_axes(None, B=15, widths={"n_embd": 768}, needed=100, memory=99, devices=8) == {"fsdp": 3}
    assert choose_axes({"data": 2}, B=16, widths={"n_embd": 768}, needed=100, memory=0, devices=8) == {"data": 2}


def test_more_devices_than_there_are():
    with pytest.raises(UsageError, match="--mesh data=2,fsdp=4 is of 8 devices, and there are 1"):
        make_mesh({"data": 2, "fsdp": 4}, jax.devices())


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
    assert local_rows(batch_sharding(make_mesh({}, jax.devices())), 12) == slice(0, 12)


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
