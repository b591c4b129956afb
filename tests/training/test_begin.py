import types

import numpy as np

from jaxgpt.training.begin import lead_of, resolve_steps
from jaxgpt.training.config import TrainConfig


def test_epochs_are_counted_in_tokens():
    """However B, T and accumulate change, a run of 3 epochs ends in the batch with the last example of the third."""
    rng, rows = np.random.default_rng(0), 1000
    for _ in range(100):
        step = seen = last = 0
        for starts in range(rng.integers(0, 4), -1, -1):
            config = TrainConfig.of(B=int(rng.integers(1, 30)), accumulate=int(rng.integers(1, 4)), epochs=3)
            data = types.SimpleNamespace(B=config.data.B_step, T=32)
            lead = lead_of(types.SimpleNamespace(step=step, tokens_seen=seen), data)
            steps = resolve_steps(config, rows / data.B, step, lead).run.steps
            done = max(step, steps if starts == 0 else int(rng.integers(step, max(step, steps) + 1)))
            last = data.B if done > step else last
            step, seen = done, seen + (done - step) * data.B * data.T
        assert 3 * rows <= seen / 32 < 3 * rows + last
