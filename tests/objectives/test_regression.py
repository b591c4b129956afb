"""The loss of numbers, against the head's kernel by hand."""

import dataclasses

import jax
import numpy as np

from jaxgpt.objectives import choose_objective, regression
from tests.support.models import random_model

X = np.random.default_rng(0).integers(1, 61, (3, 12), dtype=np.int32)


def test_squared_errors_of_the_last_token(tiny):
    model = jax.tree.map(jax.device_put, random_model(dataclasses.replace(tiny, n_labels=1)))
    last, score = np.array([4, 11, 0], np.int32), np.array([2.5, -1, 9], np.float32)
    batch = {"tokens": X, "last": last, "score": score, "weight": np.array([1, 1, 0], np.float32)}  # the last: filling
    hidden = np.asarray(model.hidden(X))[[0, 1], last[:2]]
    errors = (hidden @ np.asarray(model.score.kernel[...]))[:, 0] - score[:2]
    np.testing.assert_allclose(regression.loss(model, batch)["loss"], ((errors**2).sum(), 2), rtol=1e-5)
    found = regression.measure(model, batch)
    np.testing.assert_allclose(found["loss_squared"], ((errors**4).sum(), 2), rtol=1e-5)
    assert choose_objective("scores").labels == ("score",)
