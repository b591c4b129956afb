import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.objectives import OBJECTIVES, choose_objective
from jaxgpt.objectives.base import Objective, count_targets, loss_sums, mean


def test_the_data_and_the_model_choose_the_objective_unless_it_is_named():
    assert choose_objective("text") is not None and choose_objective("text").name == "next_token"
    assert choose_objective("text", predict_tokens=3).name == "multi_token"
    assert choose_objective("completions").name == "completion"
    assert choose_objective("completions", predict_tokens=2).name == "multi_token_completion"
    assert choose_objective("labels", labels=["no", "yes"]) == OBJECTIVES["classification"].__class__(
        **vars(OBJECTIVES["classification"]) | {"labels": ("no", "yes")}
    )
    assert choose_objective("text", "next_token") == OBJECTIVES["next_token"]
    for wrong in (("text", "completion"), ("text", "nothing"), ("text", "next_token", 0, 2)):
        with pytest.raises(UsageError, match="--objective"):
            choose_objective(*wrong)


def test_a_mean_of_nothing_is_nan_and_without_a_measure_the_loss_is_measured():
    assert mean((jnp.float32(6), jnp.float32(3))) == 2 and jnp.isnan(mean((jnp.float32(0), jnp.float32(0))))
    metrics = loss_sums(np.array([1.0, 3.0, 0.0]), np.array([True, True, False]))
    assert {name: (float(value), float(n)) for name, (value, n) in metrics.items()} == {
        "loss": (4, 2),
        "loss_squared": (10, 2),
    }
    objective = Objective("toy", "text", lambda model, batch, keys: (model, batch, keys))
    assert objective.validation_metrics("model", "batch") == ("model", "batch", None)


def test_no_target_counts_as_a_trifle_so_that_nothing_divided_by_it_is_no_number():
    targets = jnp.array([[3, -1, 0], [-1, -1, -1]])
    assert count_targets(targets) == 2
    mean = jnp.float32(0) / count_targets(targets[1])
    assert mean == 0 and count_targets(targets) + count_targets(targets[1]) == 2
    assert count_targets(jnp.ones((2, 3, 4)), (0, 2)).tolist() == [8, 8, 8]
