"""The recurrent block of Griffin and Hawk: a convolution over time and the RG-LRU, which are gated.

De et al. (2024), arXiv 2402.19427, section 2.4 and figure 2; the RG-LRU is the real-gated linear recurrent unit.
Letters: B batch, T time, C embedding width, W width of the recurrence, k width of the convolution, H heads.
"""

import jax
import jax.numpy as jnp

from jaxgpt.models.configs import GriffinConfig
from jaxgpt.models.layers import Module, Param, Rngs, in_float32_on_cpu, linear, normal
from jaxgpt.models.ops.linear_recurrence import linear_recurrence
from jaxgpt.models.ops.matmul import product

State = tuple[jax.Array, jax.Array]  # h, float32 (B, W), and the last inputs of the convolution, (B, k - 1, W)


class Recurrence(Module):
    """A convolution over time and the RG-LRU, gated by a layer beside them (figure 2 of the paper)."""

    def __init__(self, config: GriffinConfig, rngs: Rngs):
        C, W = config.n_embd, config.lru_width
        self.linear_x = linear(config, "linear_x", C, W, rngs)
        self.linear_y = linear(config, "linear_y", C, W, rngs)
        self.linear_out = linear(config, "linear_out", W, C, rngs, residual=True)
        self.conv_1d = Convolution(config, rngs)
        self.rg_lru = RGLRU(config, rngs)

    @jax.named_scope("recurrence")
    def __call__(self, x: jax.Array, past: jax.Array, first_visible: jax.Array | None = None) -> jax.Array:
        """(B*T, C) to (B*T, C); see Block."""
        k = self.conv_1d.k
        u = jnp.pad(self._inputs(x, past), ((0, 0), (k - 1, 0), (0, 0)))
        return self._output(x, linear_recurrence(*self.rg_lru(self.conv_1d(u, past), past)))

    @jax.named_scope("recurrence")
    def decode(self, x: jax.Array, state: State, past: jax.Array, count: jax.Array) -> tuple[jax.Array, State]:
        """The same from a state on; see Block."""
        h, window = state
        u = jnp.concatenate([window, self._inputs(x, past)], axis=1)  # (B, k - 1 + T, W)
        a, b = self.rg_lru(self.conv_1d(u, past), past)
        states = linear_recurrence(a, b.at[:, 0].add(a[:, 0] * h))
        h = slices(jnp.concatenate([h[:, None], states], axis=1), count, 1)[:, 0]
        return self._output(x, states), (h, slices(u, count, window.shape[1]))

    def _inputs(self, x: jax.Array, past: jax.Array) -> jax.Array:
        """What the convolution reads, (B, T, W)."""
        return self.linear_x(x).reshape(-1, past.shape[1], self.linear_x.out_features)

    def _output(self, x: jax.Array, h: jax.Array) -> jax.Array:
        return self.linear_out(gated(h.reshape(x.shape[0], -1).astype(x.dtype), self.linear_y(x)))


class Convolution(Module):
    """A causal convolution of each feature over time."""

    def __init__(self, config: GriffinConfig, rngs: Rngs):
        W, self.k = config.lru_width, config.conv_width
        self.weight = Param(normal((0.01 / self.k) ** 0.5)(rngs.params(), (W, 1, self.k)))  # the oldest token's first
        self.bias = Param(jnp.zeros(W))

    def __call__(self, u: jax.Array, past: jax.Array) -> jax.Array:
        """(B, T, W) of the inputs and the k - 1 before them, (B, k - 1 + T, W); summed in float32.

        A tap that reaches before the first token of a document gives 0, whatever stands there.
        """
        T, k = past.shape[1], self.k
        weight, y = self.weight[...], self.bias[...][None, None]
        for j in range(k):
            y = y + jnp.where(past[:, :, None] >= k - 1 - j, u[:, j : j + T] * weight[None, None, :, 0, j], 0)
        return y.astype(u.dtype)


class RGLRU(Module):
    """The gates of the real-gated linear recurrent unit, each a product by blocks on the diagonal, one a head."""

    def __init__(self, config: GriffinConfig, rngs: Rngs):
        W, self.n_head = config.lru_width, config.n_head
        width = W // self.n_head
        # With the gate open a state keeps r ** 8 of itself, r between 0.9 and 0.999, as the authors' code draws it.
        r_squared = jax.random.uniform(rngs.params(), (W,), minval=0.9**2, maxval=0.999**2)
        self.recurrent_param = Param(jnp.log(jnp.expm1(-0.5 * jnp.log(r_squared))))
        draw = normal(width**-0.5)
        self.input_gate_weight = Param(draw(rngs.params(), (self.n_head, width, width)))
        self.input_gate_bias = Param(jnp.zeros((self.n_head, width)))
        self.recurrent_gate_weight = Param(draw(rngs.params(), (self.n_head, width, width)))
        self.recurrent_gate_bias = Param(jnp.zeros((self.n_head, width)))

    def __call__(self, u: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
        """By what a state is multiplied and what is added to it, both float32 (B, T, W), of (B, T, W)."""
        by_head = u.reshape(-1, self.n_head, u.shape[-1] // self.n_head).swapaxes(0, 1)  # (H, B*T, W / H)

        def gate(weight: jax.Array, bias: jax.Array) -> jax.Array:
            return (product(by_head, weight.astype(u.dtype)) + bias[:, None]).swapaxes(0, 1).reshape(u.shape)

        input_gate = gate(self.input_gate_weight[...], self.input_gate_bias[...])
        recurrent_gate = gate(self.recurrent_gate_weight[...], self.recurrent_gate_bias[...])
        return decay_and_input(u, input_gate, recurrent_gate, self.recurrent_param[...], past)


@jax.checkpoint
def decay_and_input(
    u: jax.Array, input_gate: jax.Array, recurrent_gate: jax.Array, parameter: jax.Array, past: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Equations 1 to 4, of the gates before their sigmoids; at the first token of a document a is 0 and b the input."""
    log_a = -8 * jax.nn.sigmoid(recurrent_gate) * jax.nn.softplus(parameter)[None, None]
    first = past[:, :, None] == 0
    scale = jnp.where(first, 1, bounded_sqrt(1 - jnp.exp(2 * log_a)))
    return jnp.where(first, 0, jnp.exp(log_a)), scale * jax.nn.sigmoid(input_gate) * u.astype(jnp.float32)


@jax.custom_jvp
def bounded_sqrt(x: jax.Array) -> jax.Array:
    """The root of x, with a derivative of at most 1,000: near 0, where a state forgets nothing, it has no bound."""
    return jnp.sqrt(x)


@bounded_sqrt.defjvp
def _bounded_sqrt_jvp(x: tuple[jax.Array], dx: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(x[0]), dx[0] / jnp.sqrt(jnp.maximum(4 * x[0], 1e-6))


def slices(x: jax.Array, start: jax.Array, length: int) -> jax.Array:
    """Of each row of x, (B, n, ...), `length` entries from its own start on, int (B,): (B, length, ...)."""
    return jax.vmap(lambda x, start: jax.lax.dynamic_slice_in_dim(x, start, length))(x, start)


@jax.checkpoint
def gated(x: jax.Array, gate: jax.Array) -> jax.Array:
    """x . gelu(gate); its derivative is cheaper to compute again from its inputs than to keep in memory."""
    return in_float32_on_cpu(lambda x, gate: x * jax.nn.gelu(gate, approximate=True), x, gate)
