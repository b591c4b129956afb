"""Log probabilities of labels: against one text after the other, in float64."""

import jax
import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.inference.classify import log_probabilities
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights
from tests.support import golden, round_trips

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_an_encoders_folder_gives_texts_and_pairs_what_transformers_does(kind, write, tmp_path):
    """From the texts on, in a padded batch, some of them cut."""
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    folder, length = tmp_path / "theirs", 24
    tokenizer = (round_trips.make_bert if kind == "Bert" else round_trips.make_roberta)(folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    shape |= {} if kind == "Bert" else {"type_vocab_size": 1, "pad_token_id": 1}
    positions = length if kind == "Bert" else length + 2
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), max_position_embeddings=positions, num_labels=3, initializer_range=0.5, **shape
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    model.save_pretrained(folder)
    single = [("the cat sat",), ("unaffable " * 20,)]
    pairs = [("the cat", "sat on a mat"), ("a " * 30, "b"), ("a", "b c " * 20), ("sat", "sat")]
    for texts, names in ((single, ("text",)), (pairs, ("text_a", "text_b"))):
        source = resolve_weights(folder)
        path = write("texts.jsonl", [dict(zip(names, each, strict=True)) for each in texts])
        options = {"template": source.template, "tokenizer": source.tokenizer}
        data, _, _ = examples.load_texts(path, 4, source.T, source.labels, **options)
        ours = np.concatenate(list(log_probabilities(load(source), data)))
        columns = map(list, zip(*texts, strict=True))
        batch = tokenizer(*columns, truncation=True, max_length=length, padding=True, return_tensors="pt")
        with torch.no_grad():
            theirs = model(**batch).logits.log_softmax(-1).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-5)  # weights of 0.5 make rounding large
