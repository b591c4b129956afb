"""The loop: what it logs is what its parts, called by hand, give."""

import functools
import json

import jax
import numpy as np

from jaxgpt.config import TrainConfig
from jaxgpt.corpus import load
from jaxgpt.loader import next_batch
from jaxgpt.loop import run
from jaxgpt.optimizer import make_optimizer
from jaxgpt.step import init_state, loss_fn, train_step

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 20, "block_size": 32}


def test_the_loop_is_its_parts_one_after_the_other(tmp_path):
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question: " * 9)
    flags = TrainConfig(B=2, T=16, steps=5, data=f"{tmp_path}/text.txt", out=tmp_path / "run", **SMALL)
    assert run(flags, None) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]

    tokens, tx, position = load(flags.data).tokens, make_optimizer(lambda step: flags.lr), 0
    key = jax.random.fold_in(jax.random.key(flags.seed), 2)
    state = init_state(key, config=flags.model(dtype="float32"), tx=tx)
    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx))
    for row in rows:
        assert (row["position"], row["lr"]) == (position, np.float32(flags.lr))
        x, y, position = next_batch(tokens, position, flags.B, flags.T)
        state, metrics = step(state, (x, y))
        np.testing.assert_allclose(row["loss"], metrics["loss"], rtol=1e-6)
        np.testing.assert_allclose(row["grad_norm"], metrics["grad_norm"], rtol=1e-5)
    assert len(rows) == 5 and rows[-1]["tokens_seen"] == 5 * 2 * 16
