"""The loss of labels, against logits and losses by hand."""

import dataclasses

import jax
import numpy as np

from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import choose_objective, classification
from jaxgpt.objectives.classification import label_logits

X = np.random.default_rng(0).integers(1, 61, (2, 12), dtype=np.int32)


def test_labels_are_predicted_from_the_last_token_alone(tiny):
    config = dataclasses.replace(tiny, n_labels=3)
    model = jax.tree.map(lambda leaf: 4 * leaf, GPT2(config, jax.random.key(1)))
    last, label = np.array([4, 11], np.int32), np.array([2, 0], np.int32)
    batch = {"tokens": X, "last": last, "labels": label}
    logits = label_logits(model, X, last)
    for row in range(2):
        alone = model.hidden(X[row : row + 1, : last[row] + 1])[0, -1] @ model.score.kernel[...]
        np.testing.assert_allclose(logits[row], alone, rtol=1e-5)
    logp = np.asarray(jax.nn.log_softmax(logits))
    losses = -logp[[0, 1], label]
    np.testing.assert_allclose(classification.loss(model, batch)["loss"], (losses.sum(), 2), rtol=1e-6)
    found = classification.measure(model, batch | {"labels": np.array([2, -1], np.int32)})  # the second one is padding
    expected = {"loss": (losses[0], 1), "loss_squared": (losses[0] ** 2, 1), "accuracy": (logp[0].argmax() == 2, 1)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    assert choose_objective("labels", labels=["a", "b"]).labels == ("a", "b")
