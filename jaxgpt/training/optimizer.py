"""The learning rate over the steps, and AdamW."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax


def lr_schedule(
    lr: float,
    steps: int,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup_ratio: float = 0.0,
    min_lr_ratio: float = 0.1,
) -> optax.Schedule:
    """The learning rate of step 0, 1, ..., steps - 1.

    In the first w = warmup_ratio * steps steps it is lr * (step + 1) / w; then it stays at lr, or follows half a cosine
    down to lr * min_lr_ratio at `steps`: get_lr of build-nanogpt, which does not lose the first step to lr = 0 either.
    """
    warmup = round(warmup_ratio * steps)
    after = optax.constant_schedule(lr)
    if schedule == "cosine" and steps > warmup:
        after = optax.cosine_decay_schedule(lr, steps - warmup, alpha=min_lr_ratio)
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(lr / warmup, lr, warmup - 1), after], [warmup])


def make_optimizer(
    schedule: optax.Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay: Literal["all", "matrices"] = "all",
    grad_clip: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter, 2019) with PyTorch's arithmetic and defaults, and clipping by global norm before it.

    Args:
      schedule: learning rate by step.
      weight_decay: times the learning rate, taken off the parameters that `decay` names.
      decay: "all", or "matrices": only kernels and embeddings.
      grad_clip: largest global norm; 0 is no clipping.
    """
    mask = matrices if decay == "matrices" else None
    adamw = optax.chain(
        adam(beta1, beta2, eps), optax.add_decayed_weights(weight_decay, mask), optax.scale_by_learning_rate(schedule)
    )
    return optax.chain(optax.clip_by_global_norm(grad_clip), adamw) if grad_clip else adamw


def adam(beta1: float, beta2: float, eps: float) -> optax.GradientTransformationExtraArgs:
    """optax.scale_by_adam (Kingma & Ba, 2015, algorithm 1) that can pass over a step and leave the moments as they are.

    Its update takes `good`, bool (): False for a step that is passed over. The choice is made here, on the new moments
    alone: after optax's own, XLA would keep the old ones in a copy.
    """

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None, *, good: Any = True, **_: Any) -> Any:
        def moment(old: Any, decay: float, power: int) -> Any:
            return jax.tree.map(lambda m, g: jnp.where(good, (1 - decay) * g**power + decay * m, m), old, grads)

        mu, nu, count = moment(state.mu, beta1, 1), moment(state.nu, beta2, 2), state.count + 1
        mu_hat, nu_hat = optax.tree.bias_correction(mu, beta1, count), optax.tree.bias_correction(nu, beta2, count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu_hat, nu_hat)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam().init, update)


def matrices(params: Any) -> Any:
    """True where a parameter is a weight matrix or an embedding.

    By name: stacked over the layers, a bias has two axes as well.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(name in jax.tree_util.keystr(path) for name in ("kernel", "embedding")), params
    )
