"""What benchmarks/gpu.py measures in processes of their own, on the device that JAX takes. Each prints JSON.

python benchmarks/gpu_parts.py step gpt2 4 32 bfloat16 60    # B, T, the dtype, and for how many seconds at most
python benchmarks/gpu_parts.py decode gpt2
python benchmarks/gpu_parts.py checks
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from contestants import jaxgpt_side
from training import find_floors, find_peaks

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt import console
from jaxgpt.data import corpus
from jaxgpt.data.cache import cache_folder
from jaxgpt.data.loader import next_batch
from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset

TURNS, TURN_S = 7, 1.0  # timed turns, of at most 20 steps and about so many seconds
NEW_TOKENS, PROMPT, BATCHES = 64, 32, (1, 8)  # as in benchmarks/generation.py
CHECKED_STEPS = 5


def select() -> Any:
    """The device."""
    import jax

    from jaxgpt.runtime import device

    device.select("auto")
    device.keep_compiled(cache_folder() / "compiled")
    return jax.devices()[0]


def new_config(size: str, **flags: Any) -> TrainConfig:
    return TrainConfig.from_preset(Preset(size=size)).replace(**flags)


# ---- The training step


def time_step(size: str, B: int, T: int, dtype: str, seconds: float) -> dict[str, Any]:
    """Time a training step for at most so many seconds from now; the least that its program and its model need."""
    start, first = time.monotonic(), select()

    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import device_bytes, single_device
    from jaxgpt.training.setup import build_trainer, compile_step

    config = new_config(size, B=B, T=T, dtype=dtype)
    hint = "name a smaller shape with --shapes"
    with device.memory_errors(hint):
        step = compile_step(config, single_device())
        plan = planned_bytes(step.memory_analysis())
        if plan > device.free_memory():
            free = f"{device.free_memory() / 1e9:.2f} GB are free"
            raise RetryableError(f"out of memory: {plan / 1e9:.2f} GB are needed, and {free}; {hint}")
        advance, peak = jaxgpt_side(config, step)
        for _ in range(3):
            advance(1)
        turn = min(20, max(1, round(TURN_S / timed(advance, 1)))) if first.platform == "gpu" else 1
        times = []
        while len(times) < TURNS and (not times or time.monotonic() - start + turn * times[-1] < 0.8 * seconds):
            times.append(timed(advance, turn))
    shapes = build_trainer(config).shapes.model
    parameters, model = device_bytes(shapes) // 4, config.model_config()
    gpu, s = first.device_kind if first.platform == "gpu" else "", statistics.median(times)
    flops_s, bytes_s = find_floors(gpu, B, T, dtype, parameters, model.n_layer, model.n_embd)
    return {
        "ms": 1e3 * s,
        "lowest_ms": 1e3 * min(times),
        "turns": len(times),
        "steps_per_turn": turn,
        "tokens_per_s": B * T / s,
        "mfu": flops_s and flops_s / s,
        "flop_floor_ms": 1e3 * flops_s,
        "bandwidth_floor_ms": 1e3 * bytes_s,
        "peak_bytes": peak(),
        "planned_bytes": plan,
        "program": count_program(step.as_text(), gpu, dtype),
    }


def timed(advance: Any, steps: int) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    advance(steps)
    return (time.perf_counter() - start) / steps


def planned_bytes(plan: Any) -> int:
    """What XLA planned for a step, its state included: `all` in the table of `jaxgpt fit`."""
    return plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes


def count_program(text: str, gpu: str, dtype: str) -> dict[str, Any]:
    """Kernels, bytes and operations of a program, and the least time for them at the GPU's peaks, 0 if unknown."""
    from jaxgpt.runtime.xla import program

    try:
        kernels = program.kernels(text)
    except Exception as error:  # the time is worth more than a count of a program that no one has seen before
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    counts = {"kernels": program.runs(kernels)}
    counts |= {name: sum(k.times * getattr(k, name) for k in kernels) for name in ("bytes", "flops")}
    peak, bandwidth = find_peaks(gpu, dtype)
    floor_ms = program.lower_bound_ms(kernels, program.Gpu(gpu, peak, bandwidth, 0)) if peak else 0
    return counts | {"floor_ms": floor_ms}


# ---- Generation


def time_decode(size: str) -> dict[str, Any]:
    """Tokens/s of greedy generation; medians of five calls."""
    first = select()

    import jax

    from jaxgpt.inference.generate import generate
    from jaxgpt.models.base import build
    from jaxgpt.runtime import device

    shape = new_config(size).model_config()
    compute = device.compute("auto", shape.n_layer, shape.head_size, shape.block_size)
    config = new_config(size).model_config(**compute)
    model = jax.jit(build, static_argnums=0)(config, jax.random.key(0))
    rows = []
    for B in BATCHES:
        prompts = np.random.default_rng(B).integers(0, 50257, (B, PROMPT)).tolist()
        started = time.perf_counter()
        generate(model, prompts, NEW_TOKENS, temperature=0)
        first_s = time.perf_counter() - started
        times = [timed(lambda n, texts=prompts: generate(model, texts, n, temperature=0), NEW_TOKENS) for _ in range(5)]
        rows.append({"B": B, "tokens_per_s": B / statistics.median(times), "first_call_s": first_s})
    return {"platform": first.platform, "dtype": config.dtype, "prompt": PROMPT, "new": NEW_TOKENS, "rows": rows}


# ---- Checks: what the device computes beside what the host does


def run_checks() -> dict[str, Any]:
    """Each check's number, and the largest that is right."""
    first = select()

    import jax

    from jaxgpt.commands.doctor import ATTENTION_ERROR, attention_error
    from jaxgpt.runtime import device

    host = jax.devices("cpu")[0]
    attention = device.compute("bfloat16", 1, 64, 128)["attention"]
    f32, bf16, on_host = (train_steps(*each) for each in ((first, "float32"), (first, "bfloat16"), (host, "float32")))
    last = f"loss of step {CHECKED_STEPS - 1}"
    checks = [
        (f"attention by {attention} in bfloat16, and the formula", attention_error(attention), ATTENTION_ERROR),
        ("its gradient, relative to the largest", attention_gradient_error(attention), 2e-2),
        ("first loss in float32, and the host's", abs(f32[0][0] - on_host[0][0]), 1e-4),
        ("first gradient norm in float32, and the host's, relative", abs(f32[0][1] / on_host[0][1] - 1), 1e-4),
        (f"{last} in float32, and the host's", abs(f32[-1][0] - on_host[-1][0]), 1e-3),
        (f"{last} in bfloat16, and in float32", abs(bf16[-1][0] - f32[-1][0]), 5e-2),
        ("arrays with another fingerprint than on the host", count_other_fingerprints(first, host), 0),
        ("generated tokens that one pass over the text would not take", count_other_tokens(), 0),
    ]
    return {"checks": [{"what": what, "value": float(value), "at_most": most} for what, value, most in checks]}


def attention_gradient_error(implementation: str) -> float:
    """As doctor.attention_error, of the gradient by queries, keys and values, over the largest element."""
    import jax
    import jax.numpy as jnp

    q, k, v, g = jax.random.normal(jax.random.key(1), (4, 2, 256, 4, 64), jnp.bfloat16)

    def gradient(implementation: str, dtype: Any) -> list[jax.Array]:
        def weighted(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)
            return (y * g.astype(dtype)).sum(dtype=jnp.float32)

        return jax.grad(weighted, (0, 1, 2))(*(x.astype(dtype) for x in (q, k, v)))

    pairs = zip(gradient(implementation, jnp.bfloat16), gradient("xla", jnp.float32), strict=True)
    return max(float(jnp.abs(a.astype(jnp.float32) - b).max() / jnp.abs(b).max()) for a, b in pairs)


def train_steps(where: Any, dtype: str) -> list[tuple[float, float]]:
    """Loss and gradient norm of some steps of the tiny model on a device."""
    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import make_mesh
    from jaxgpt.training.setup import build_trainer, compile_step

    config, mesh = new_config("tiny", B=4, T=64, dtype=dtype), make_mesh({}, [where])
    trainer, step = build_trainer(config, mesh), compile_step(config, mesh)
    state, frozen = trainer.init_state(seed=0), trainer.init_frozen(seed=0)
    tokens, position, rows = corpus.load("shakespeare").tokens, 0, []
    for _ in range(CHECKED_STEPS):
        x, y, position = next_batch(tokens, position, 4, 64)
        state, metrics = step(state, device.put({"tokens": x, "targets": y}, trainer.sharding), frozen)
        rows.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    return rows


def count_other_fingerprints(first: Any, host: Any) -> int:
    """Arrays that a checkpoint of the device would be refused for on the host, or the reverse."""
    import jax

    from jaxgpt.runs.fingerprint import fingerprints_by_name
    from jaxgpt.training.setup import build_trainer

    state = build_trainer(new_config("tiny")).init_state(seed=0)
    a, b = (fingerprints_by_name(jax.device_put(state, where)) for where in (first, host))
    return sum(a[name] != b[name] for name in a)


def count_other_tokens() -> int:
    """New tokens by the cache that are not the likeliest by one pass over the whole text, in float32."""
    import jax
    import jax.numpy as jnp

    from jaxgpt.inference.generate import generate
    from jaxgpt.models.base import build

    model = jax.jit(build, static_argnums=0)(new_config("tiny").model_config(dtype="float32"), jax.random.key(0))
    prompt = np.random.default_rng(0).integers(0, 50257, 20).tolist()
    new = generate(model, [prompt], 40, temperature=0)[0]
    logits = jax.jit(lambda model, tokens: model(tokens))(model, jnp.asarray([prompt + new]))
    likeliest = np.asarray(logits[0, len(prompt) - 1 : -1].argmax(-1))
    return int((likeliest != np.asarray(new)).sum())


def main(argv: list[str]) -> int:
    match argv:
        case ["step", size, B, T, dtype, seconds]:
            found = time_step(size, int(B), int(T), dtype, float(seconds))
        case ["decode", size]:
            found = time_decode(size)
        case ["checks"]:
            found = run_checks()
        case _:
            raise UsageError("name a part: step, decode or checks; benchmarks/gpu.py does")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))
