"""The train step as an H100 gets it, compiled here without one: what makes it fast is in the program."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import pytest

from jaxgpt.runtime.xla import aot, program
from jaxgpt.training import setup
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.setup import build_trainer

ROOT = Path(__file__).parents[3]
CONFIGS = {"latency": TrainConfig.of(B=4, T=32), "throughput": TrainConfig.of(B=64, T=1024)}
# By layers. Kernels a step; GB moved; ms, the lower bound of their sum; GB of temporary memory. Each a little above
# what it is.
LIMITS = {
    ("latency", 2): (148, 2.72, 0.81, 0.22),
    ("latency", 12): (480, 5.7, 1.70, 0.40),
    ("throughput", 12): (600, 204.0, 84.5, 24.0),
}


def name_of(regime):
    return f"{regime[0]}-{regime[1]}"


@pytest.fixture(
    params=[pytest.param(each, marks=pytest.mark.slow if each[1] == 12 else ()) for each in LIMITS], ids=name_of
)
def regime(request, h100_step):
    name, n_layer = request.param
    config = CONFIGS[name].replace(n_layer=n_layer)
    compiled = h100_step(config)
    return config, compiled, program.kernels(compiled.as_text()), LIMITS[request.param]


def test_the_step_moves_little_in_few_kernels(regime):
    _, compiled, kernels, (most_kernels, most_gb, most_ms, most_temporary_gb) = regime
    assert program.runs(kernels) <= most_kernels
    assert sum(kernel.times * kernel.bytes for kernel in kernels) / 1e9 <= most_gb
    assert program.lower_bound_ms(kernels, program.H100) <= most_ms
    assert compiled.memory_analysis().temp_size_in_bytes / 1e9 <= most_temporary_gb


def test_the_step_is_one_graph_of_bfloat16_products_and_flash_attention(regime):
    config, _, kernels, _ = regime
    assert program.runs(kernels, "attention") == program.runs(kernels, "attention backward") == config.model.n_layer
    assert not program.products_not_in(kernels, "bf16")
    for V in (50257, 50264):  # as they are, and as cuBLAS wants them
        assert not program.results(kernels, "f32", config.data.B * config.data.T * V)  # logits of all tokens
        assert config.data.T == 32 or not program.results(kernels, "bf16", config.data.B * config.data.T * V)
    assert not program.loops(kernels)
    assert not program.transposes(kernels)
    assert not program.names(kernels, "dynamic-update-slice")
    assert not program.names(kernels, "callback")
    assert len(program.names(kernels, "scatter")) <= 2  # the two embeddings' gradients


def test_the_state_is_donated(regime):
    config, compiled, _, _ = regime
    state = build_trainer(config, aot.described("h100")[0]).shapes
    bytes_ = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert compiled.memory_analysis().alias_size_in_bytes == bytes_


@pytest.mark.slow
def test_float32_is_never_tf32(h100_step):
    config = TrainConfig.of(B=2, T=32, n_layer=1, dtype="float32")
    text = h100_step(config).as_text()
    products = [line for line in text.splitlines() if " dot(" in line or "__cublas$" in line]
    assert len(products) >= 3 * (4 + 2 + 1)  # linear layers, attention, head: forward, and backward twice
    for product in products:
        assert "operand_precision={highest,highest}" in product or '"HIGHEST","HIGHEST"' in product


@pytest.mark.slow
def test_an_accumulated_step_has_one_loop_and_one_optimizer(h100_step):
    config = TrainConfig.of(B=2, T=32, accumulate=4, n_layer=1)
    kernels = program.kernels(h100_step(config).as_text())
    assert len(program.loops(kernels)) == 1
    assert all(kernel.times == 4 for kernel in kernels if kernel.loop and kernel.kind == "attention")
    sqrt = [kernel for kernel in kernels if "sqrt" in kernel.operations and kernel.bytes > 10**8]
    assert sqrt and not any(kernel.loop for kernel in sqrt)  # AdamW


def test_memory_is_what_the_state_and_the_program_take(h100_step, monkeypatch):
    monkeypatch.setattr(setup, "compile_step", lambda config, on: h100_step(config))
    found = setup.step_memory(TrainConfig.of(B=4, T=32, n_layer=2), aot.described("h100")[0])
    parameters = 2 * (12 * 768**2 + 13 * 768) + (50257 + 1024 + 2) * 768
    assert found.parameters == 4 * parameters
    assert found.optimizer == 8 * parameters + 2 * 4  # two moments, and the counters of AdamW and of the schedule
    assert 0 < found.temporary < 10**9
    assert found.total == found.parameters + found.optimizer + found.temporary


DUMP = """
from jaxgpt.runtime import device
from jaxgpt.runtime.xla import aot
import os, sys
os.environ.update(device.gpu_settings())
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.setup import compile_step
compile_step(TrainConfig.of(B=4, T=32, n_layer=1), aot.described("h100")[0])
"""


@pytest.mark.slow
def test_embeddings_gradients_are_added_up_by_the_hardware(h100, tmp_path):
    """And not by comparing and swapping in a loop, as jax 0.10.2 to 0.11 do where nobody tells them."""
    flags = f"--xla_dump_to={tmp_path} --xla_dump_emitter_re=ptx"  # with more, ptxas is started for each kernel
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    subprocess.run([sys.executable, "-c", DUMP], env=environment | {"XLA_FLAGS": flags}, check=True, timeout=300)
    code = "".join(path.read_text() for path in tmp_path.glob("*.ptx"))
    assert re.search(r"\b(atom|red)\.\S*add\S*\.f32|atomicrmw fadd", code)
    assert not re.search(r"\batom\.[a-z.]*cas", code)


def test_without_the_plug_in_it_says_what_to_install(monkeypatch):
    from jax.experimental import topologies

    def missing(**_):
        raise NotImplementedError("no cuda here")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    with pytest.raises(aot.UsageError, match=r"no CUDA plug-in of JAX \(no cuda here\) to compile for it; pip install"):
        aot.described("h100")


def test_what_compilers_write_is_deleted_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # Python's own, which is asked for once
    with aot.discard_compiler_files():
        (folder,) = tmp_path.iterdir()
        assert os.environ["TMPDIR"] == str(folder)
        (folder / "tempfile-host-1").touch()
    assert not list(tmp_path.iterdir()) and os.environ["TMPDIR"] == str(tmp_path)


COMPILER = """
import os, signal, threading, time
from jaxgpt import signals
from jaxgpt.runtime.xla import aot

def complain():  # as XLA does of a file that it would delete
    while os.path.exists(file):
        pass
    os.write(2, b"a fatal error")

signals.exit_on_signals()
with aot.discard_compiler_files():
    open(file := os.environ["TMPDIR"] + "/file", "w").close()
    threading.Thread(target=complain, daemon=True).start()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_signal_deletes_it_and_is_the_only_error(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", COMPILER], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (143, "error: terminated\n")
    assert not list(tmp_path.iterdir())
