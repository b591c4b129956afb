import gzip
import json

import jax
import jax.numpy as jnp

from jaxgpt.runs.progress import Run
from jaxgpt.runtime.profiler import FIRST, Profiler


def loop(trace, steps):
    step, state = jax.jit(lambda x: x @ x / 2), jnp.eye(8)
    with trace:
        for number in range(steps):
            trace.before_step(Run(state, number))
            state = step(state)
            trace.after_step(Run(state, number + 1), {})


def test_traces_as_many_steps_as_were_asked_for(tmp_path):
    trace = Profiler(tmp_path / "profile", 2)
    loop(trace, FIRST + 5)
    [file] = trace.files.glob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    runs = {event["args"]["run_id"] for event in events if "run_id" in event.get("args", {})}
    products = [event for event in events if event.get("args", {}).get("hlo_op", "").startswith("dot")]
    assert len(products) == 2 or len(runs) == 2
    assert list(trace.files.glob("*.xplane.pb"))


def test_a_loop_that_ends_early_has_a_shorter_trace_and_none_asked_for_is_none(tmp_path):
    trace = Profiler(tmp_path / "early", 50)
    loop(trace, FIRST + 1)
    assert list(trace.files.glob("*.trace.json.gz"))
    trace = Profiler(tmp_path / "none", 0)
    loop(trace, FIRST + 5)
    assert trace.files is None and not (tmp_path / "none").exists()
