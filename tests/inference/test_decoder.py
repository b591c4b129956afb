import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.inference.decoder import DecodeState, decode_until, init_decoder
from jaxgpt.inference.generate import generate
from jaxgpt.inference.sampling import SamplingParams, make_sampling_params
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from tests.inference.test_generate import CONFIG, PROMPTS, make


def test_it_ends_when_all_texts_have():
    """On the device: the last call does not run to its limit."""
    model = make(CONFIG)
    free = generate(model, PROMPTS[1:2], 10, temperature=0)[0]
    model, cache = init_decoder(model, 1)
    tokens, none = np.array([[*PROMPTS[1], *[0] * 126]], np.int32), np.zeros(1, np.int32)
    state = DecodeState(tokens, none + 3, 0, none, np.zeros(1, bool), 0, none[:0])
    state, _ = jax.jit(decode_until)(
        model, cache, state, make_sampling_params(0, stop=free[4]), jax.random.split(jax.random.key(0), 1), 10
    )
    assert state.num_new.item() == free.index(free[4]) + 1


@pytest.mark.slow
@pytest.mark.parametrize("num_drafts", [0, 1])
def test_the_gpu_program(h100, num_drafts):
    """For an H100, in bfloat16: it compiles, writes the cache in place, and does not sort the vocabulary."""
    sizes = {"n_layer": 2 + num_drafts, "predict_tokens": 1 + num_drafts}
    config, B = GPT2Config(n_head=2, n_embd=128, dtype="bfloat16", **sizes), 4
    model, cache = jax.eval_shape(lambda: init_decoder(GPT2(config, jax.random.key(0)), B, bool(num_drafts)))

    def shape(*sizes, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(sizes, dtype)

    state = DecodeState(
        shape(B, 1026), shape(B), shape(), shape(B), shape(B, dtype=jnp.bool), shape(), shape(num_drafts)
    )
    sampling = SamplingParams(*[shape(dtype=jnp.float32)] * 3, shape())
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), B))
    arguments = h100((model, cache, state, sampling, keys, shape()))
    program = jax.jit(decode_until, donate_argnames="cache").lower(*arguments).compile()
    cache_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    columns = 1024 + 128 * num_drafts  # a draft may stand after the context
    assert cache_bytes == (2 + num_drafts) * 2 * B * 2 * columns * 64 * 2
    assert program.memory_analysis().alias_size_in_bytes >= cache_bytes
    assert " sort(" not in program.as_text()
