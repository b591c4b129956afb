"""What the parts of a run around the training step cost, each beside a step of the main job: 124M, B=4, T=32.

python benchmarks/parts.py
python benchmarks/parts.py --B 64 --T 1024    # on a GPU

The loader: one call of next_batch. The tokenizer: a whole text, on all cores. A row: MetricsLog.add for a step that is
done, the line in log.jsonl included. A save, beside the steps before it: how long Checkpoints.save keeps the loop from
its next step, by how much that step is longer, what the save costs altogether (the call, and by how much all steps are
longer until the state is on the disk), and how long that takes (1.5 GB, deleted after each).
"""

import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax

from jaxgpt.data import corpus
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.loader import next_batch
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.progress import Run
from jaxgpt.runtime import allocator, device
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.log import MetricsLog
from jaxgpt.training.setup import build_trainer
from jaxgpt.training.step import TrainState

ROWS = 500
STEPS = 5  # before each save


@dataclasses.dataclass
class Flags:
    """Time the parts of a run around the training step."""

    B: int = 4
    """Batch size of the step that all is compared with."""
    T: int = 32
    """Its sequence length."""
    rounds: int = 5
    """Repetitions; medians are told."""


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def median(action: Callable[[], object], rounds: int) -> float:
    action()
    return statistics.median(seconds(action) for _ in range(rounds))


def rows(folder: Path, metrics: dict[str, jax.Array]) -> float:
    """Seconds a row."""
    with MetricsLog(folder / "log.jsonl", 0, ROWS, [3e-4] * ROWS) as report:
        start = time.perf_counter()
        for step in range(ROWS):
            report.add(Run(None, step), Run(None, step + 1, 0, 128 * (step + 1)), metrics, {})
        report.flush()
        return (time.perf_counter() - start) / ROWS


@contextlib.contextmanager
def output_to(terminal: bool) -> Iterator[None]:
    """Send what is printed nowhere: through a terminal that someone reads, or to the null device."""
    if not terminal:
        with open(os.devnull, "w") as file, contextlib.redirect_stdout(file):
            yield
        return
    import pty

    reader, writer = pty.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while os.read(reader, 65536):
                pass

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(writer, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield
    thread.join()
    os.close(reader)


def save(folder: Path, state: Callable[[], TrainState], step: Callable[[], None]) -> tuple[float, ...]:
    """In steps: the call, what the step after it takes longer, the whole stall; and seconds until the disk has all."""
    about = {"B": 4, "T": 32, "steps": 1, "accumulate": 1, "identity": {}}
    usual = statistics.median(seconds(step) for _ in range(STEPS))
    with Checkpoints(folder, about=about) as checkpoints:
        start = time.perf_counter()
        call = seconds(lambda: checkpoints.save(Run(state(), step=1)))
        steps = [seconds(step)]
        while checkpoints._manager.is_saving_in_progress():
            steps.append(seconds(step))
        whole = time.perf_counter() - start
    return call / usual, steps[0] / usual - 1, (call + sum(steps)) / usual - len(steps), whole


def main(flags: Flags) -> None:
    B, T, rounds = flags.B, flags.T, flags.rounds
    allocator.use_one_heap()
    name = device.select("auto")
    trainer = build_trainer(TrainConfig.of(B=B, T=T))
    state, frozen = trainer.init_state(seed=0), trainer.init_frozen(seed=0)
    if jax.default_backend() == "cpu":  # as a run does
        allocator.keep_freed_memory()
    data = corpus.load()
    x, y, _ = next_batch(data.tokens, 0, B, T)

    def step() -> None:
        nonlocal state, metrics
        state, metrics = jax.block_until_ready(trainer.step(state, device.put({"tokens": x, "targets": y}), frozen))

    metrics: dict[str, jax.Array] = {}
    step_s = median(step, rounds)
    print(f"GPT-2 124M, {trainer.model.dtype}, {name}; medians of {rounds}\n\n| | | of a step |\n|---|---|---|")

    def tell(label: str, value: str, cost: float) -> None:
        print(f"| {label} | {value} | {cost / step_s:.2%} |", flush=True)

    tell(f"step, {B} x {T}", f"{1000 * step_s:,.1f} ms", step_s)
    for shape in ((4, 32), (64, 1024)):
        cost = median(lambda shape=shape: next_batch(data.tokens, 0, *shape), 1000)
        tell(f"next_batch, {shape[0]} x {shape[1]}", f"{1e6 * cost:,.0f} µs", cost)
    text = encoding().decode(data.tokens.tolist())
    cost, size = median(lambda: corpus.tokenize(text), rounds), len(text.encode()) / 1e6
    tell(f"tokenize {data.name}, {size:.1f} MB", f"{size / cost:,.1f} MB/s", cost)
    with tempfile.TemporaryDirectory() as folder:
        for terminal in (False, True) if os.name == "posix" else (False,):
            with output_to(terminal):
                cost = statistics.median(rows(Path(folder), metrics) for _ in range(rounds))
            tell(
                "row, on a terminal with its progress line" if terminal else "row, to a file",
                f"{1e6 * cost:,.0f} µs",
                cost,
            )
    costs = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            costs.append(save(Path(folder) / "checkpoints", lambda: state, step))
    call, after, stall, whole = (statistics.median(values) for values in zip(*costs, strict=True))
    names = {"the call": call, "the next step is longer by": after, "all that it keeps the loop": stall}
    for name, share in names.items():
        tell(f"save: {name}", f"{1000 * share * step_s:,.0f} ms", share * step_s)
    tell("save: until it is on the disk", f"{whole:,.1f} s", whole)


if __name__ == "__main__":
    main(tyro.cli(Flags))
