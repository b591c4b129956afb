"""Log probabilities of labels: against one text after the other, in float64."""

import jax
import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.inference.classify import log_probabilities
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2

CONFIG = GPT2Config(block_size=16, n_layer=1, n_head=2, n_embd=20, n_labels=3)
T = 8


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
def test_each_text_has_what_it_would_have_alone(batch_size, write):
    texts = ["a film", "fine", "so so so so so so so so so so", "!", "the end of it"]
    shapes = jax.eval_shape(lambda: GPT2(CONFIG, jax.random.key(0)))
    rng = np.random.default_rng(0)
    model = jax.tree.map(lambda leaf: jax.device_put(0.3 * rng.normal(size=leaf.shape).astype(np.float32)), shapes)
    path = write("texts.jsonl", [{"text": text} for text in texts])
    data, _, _ = examples.load_texts(path, batch_size, T, ["a", "b", "c"])
    parts = list(log_probabilities(model, data))
    assert sum(map(len, parts)) == 5 and {len(part) for part in parts[:-1]} <= {batch_size}
    found, kernel = np.concatenate(parts), np.asarray(model.score.kernel[...], np.float64)
    assert found.shape == (5, 3) and found.dtype == np.float64
    for row, text in zip(found, texts, strict=True):
        ids = [*encoding().encode(text)[: T - 1], encoding().eot_token]
        logits = np.asarray(model.hidden(np.array([ids], np.int32))[0, -1], np.float64) @ kernel
        np.testing.assert_allclose(row, logits - np.log(np.exp(logits).sum()), atol=1e-5)
