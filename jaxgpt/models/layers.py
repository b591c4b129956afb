"""What architectures are built of: linear layers, norms, dropout, stacks of layers; all modules are Flax NNX's.

Letters: B batch, T time, C width of the residual stream, L layers, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxgpt.models.base import REPLICATED, Rules
from jaxgpt.models.configs import LlamaConfig, ModelConfig, TransformerConfig
from jaxgpt.models.ops.matmul import add_bias, matmul

Module, Param, Rngs = nnx.Module, nnx.Param, nnx.Rngs

# For the layers here. The rest, biases, norms and adapters, is replicated: 0.1 % of GPT-2 124M.
SHARDING_RULES: Rules = {
    "score": REPLICATED,  # the head for labels computes in float32
    "kernel": (-2, "compute"),  # (L, in, out): a layer's rows, which come together in one piece
    "embedding": (-1, "float32"),  # (V, C): V is odd; tokens are looked up in float32
}


class Linear(nnx.Linear):
    """x @ kernel, + bias if use_bias, in x's dtype; with an adapter, + scale * (x @ lora_a) @ lora_b.

    The adapter is LoRA's (Hu et al., 2022, section 4.1).

    Args:
      std: standard deviation of the initial kernel.
      rank: of the adapter; 0: there is none.
      scale: what the adapter adds is multiplied by it.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        std: float,
        rngs: Rngs,
        rank: int = 0,
        scale: float = 1.0,
        use_bias: bool = True,
    ):
        super().__init__(n_in, n_out, use_bias=use_bias, kernel_init=normal(std), rngs=rngs)
        self.scale = scale if rank else 0.0
        if rank:  # lora_b is 0, so that at the beginning the adapter adds nothing
            self.lora_a = nnx.Param(uniform(rngs.params(), (n_in, rank)))
            self.lora_b = nnx.Param(jnp.zeros((rank, n_out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = matmul(x, self.kernel[...])
        if self.use_bias:
            y = add_bias(y, self.bias[...])
        if self.scale:
            y = y + (self.scale * matmul(matmul(x, self.lora_a[...]), self.lora_b[...])).astype(y.dtype)
        return checkpoint_name(y, "linear")


def linear(
    config: TransformerConfig,
    name: str,
    n_in: int,
    n_out: int,
    rngs: Rngs,
    residual: bool = False,
    use_bias: bool = True,
) -> Linear:
    """A linear layer of a block, with an adapter if config.lora_on has its name.

    Args:
      residual: whether its output is added to the residual stream. 2L do; their smaller weights keep its variance at
        init independent of the depth (Radford et al., 2019, section 2.3).
    """
    std = 0.02 / math.sqrt(2 * config.depth) if residual else 0.02
    rank = config.lora if config.adapts(name) else 0
    return Linear(n_in, n_out, std, rngs, rank, config.lora_alpha / max(rank, 1), use_bias)


def uniform(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Between -1 and 1 over the root of the number of inputs, as LoRA's authors have it."""
    return jax.random.uniform(key, shape, minval=-1, maxval=1) / math.sqrt(shape[0])


# Flax's own defaults are not GPT-2's: initializers, LayerNorm's epsilon and its one-pass variance are set here by hand.


def normal(std: float) -> nnx.Initializer:
    return nnx.initializers.normal(std)


def embedding(rows: int, width: int, rngs: Rngs) -> nnx.Embed:
    return nnx.Embed(rows, width, embedding_init=normal(0.02), rngs=rngs)


def vocabulary(config: ModelConfig, rngs: Rngs) -> nnx.Embed:
    """The token embedding, or an output matrix of its own: a row for each token id, float32 (V, C), V padded."""

    # The rows of the padding are 0 and stay 0. The others are drawn as if they were alone: padding changes no weight.
    def init(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
        rows = normal(0.02)(key, (config.vocab_size, shape[1]), dtype)
        return jnp.pad(rows, ((0, shape[0] - config.vocab_size), (0, 0)))

    return nnx.Embed(config.padded_vocab_size, config.n_embd, embedding_init=init, rngs=rngs)


def layer_norm(config: ModelConfig, rngs: Rngs, epsilon: float = 1e-5) -> nnx.LayerNorm:
    dtype = jnp.dtype(config.dtype)
    return nnx.LayerNorm(config.n_embd, epsilon=epsilon, use_fast_variance=False, dtype=dtype, rngs=rngs)


def rms_norm(config: LlamaConfig, width: int, rngs: Rngs) -> nnx.RMSNorm:
    """x over the root of its mean square, times a scale, over the last axis; the mean is float32."""
    return nnx.RMSNorm(width, epsilon=config.norm_eps, dtype=jnp.dtype(config.dtype), rngs=rngs)


def label_head(config: ModelConfig, rngs: Rngs, use_bias: bool = False) -> nnx.Linear:
    """A logit for each label, in float32."""
    return nnx.Linear(config.n_embd, config.n_labels, use_bias=use_bias, kernel_init=normal(0.02), rngs=rngs)


def pooler(config: ModelConfig, rngs: Rngs) -> nnx.Linear:
    """An encoder's layer before the head for labels, in float32."""
    return nnx.Linear(config.n_embd, config.n_embd, kernel_init=normal(0.02), rngs=rngs)


# ---- Dropout: a key for each sequence, so that its mask is the same on any device and in any part of a batch


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
    """x, (B*T, C), with a share of `rate` set to 0 and the rest scaled up (Srivastava et al., 2014); without keys, x.

    Args:
      keys: (B,), one for each sequence.
    """
    if keys is None or rate == 0:
        return x
    shape = (x.shape[0] // keys.shape[0], x.shape[1])
    mask = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys).reshape(x.shape)
    return jnp.where(mask, x / (1 - rate), 0).astype(x.dtype)


def fold(keys: jax.Array | None, number: jax.typing.ArrayLike) -> jax.Array | None:
    """New keys, (B,), each folded from one of `keys` and a number."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def layer_keys(keys: jax.Array | None, n_layer: int) -> jax.Array | None:
    """Every layer's keys, (L, B)."""
    return None if keys is None else jax.vmap(lambda layer: fold(keys, layer))(jnp.arange(1, n_layer + 1))


# ---- Stacks: layers of one kind as one module, every leaf (L, ...), which jax.lax.scan runs


def stack(make: Callable[[Rngs], Any], count: int, rngs: Rngs) -> Any:
    """`count` modules as one, every leaf (count, ...)."""
    return jax.vmap(make)(rngs.split(count))


def unstack(layers: Any) -> tuple[Any, ...]:
    """A stack's layers as a tuple; a tuple is returned unchanged."""
    if isinstance(layers, tuple):
        return layers
    count = len(jax.tree.leaves(layers)[0])
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], layers) for i in range(count))


def unstack_layers(model: Any) -> Any:
    """The same model with each stack that model.STACKS names as a tuple of its layers.

    Decoding is faster with it: slices of a stack would be copied for every token.
    """
    model = jax.tree.map(lambda leaf: leaf, model)  # a module of its own, whose attributes may be set
    for name in model.STACKS:
        if hasattr(model, name):
            setattr(model, name, nnx.data(unstack(getattr(model, name))))
    return model


def remat(function: Callable, policy: str) -> Callable:
    """`function`, which keeps for the backward pass all it needs ("none"), its linear layers' outputs ("dots") or its
    input ("full").

    What is not kept is recomputed (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").
    """
    if policy == "none":
        return function
    linear = jax.checkpoint_policies.save_only_these_names("linear")
    return jax.checkpoint(lambda *x: function(*_order_gradients(x)), policy=linear if policy == "dots" else None)


@jax.custom_vjp
def _order_gradients(x: Any) -> Any:
    """x; its gradients are finished before those of the layers below begin.

    With many GPUs XLA would put off the weights' gradients, to have products beside the sums over the devices, and keep
    all that was computed again for them.
    """
    return x


_order_gradients.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.optimization_barrier(g),))


def in_float32_on_cpu(function: Callable[..., jax.Array], *x: jax.Array) -> jax.Array:
    """`function(*x)` in x's dtype; a CPU computes what it has no float32 of in float32.

    A CPU would round after each operation, which takes most of the time; a GPU does this at the end of a product.
    """
    dtype = x[0].dtype
    if dtype == jnp.float32:
        return function(*x)
    return jax.lax.platform_dependent(
        *x, cpu=lambda *x: function(*(each.astype(jnp.float32) for each in x)).astype(dtype), default=function
    )
