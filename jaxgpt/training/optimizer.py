"""The learning rate over the steps, and the optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.base import Model
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.muon import muon


def lr_schedule(config: OptimizerConfig, steps: int, lead: float = 0) -> optax.Schedule:
    """The learning rate of step 0, 1, ..., steps - 1.

    In the first w = warmup_ratio * steps steps it is lr * (step + 1) / w; then it stays at lr, or follows half a cosine
    down to lr * min_lr_ratio at `steps`: get_lr of build-nanogpt, which does not lose the first step to lr = 0 either.
    Or it stays at lr, and falls to that in a straight line in the last cooldown_ratio * steps (warm-up, stable, decay:
    Hu et al., 2024, "MiniCPM", section 4; the line: Haegele et al., 2024, "Scaling Laws ... Beyond Fixed Training
    Durations").

    Args:
      lead: how many steps more the run would have done with its batches always as large as now; the schedule is that of
        step + lead, of steps + lead.
    """
    if lead:
        schedule = lr_schedule(config, steps + lead)
        return lambda step: schedule(step + lead)
    warmup = round(config.warmup_ratio * steps)
    decay_schedule = optax.constant_schedule(config.lr)
    if config.schedule == "cosine" and steps > warmup:
        decay_schedule = optax.cosine_decay_schedule(config.lr, steps - warmup, alpha=config.min_lr_ratio)
    elif config.schedule == "wsd" and (cooldown := round(config.cooldown_ratio * steps)):
        start = max(0, steps - warmup - cooldown)  # optax's steps count from the end of the warm-up
        decay_schedule = optax.linear_schedule(config.lr, config.lr * config.min_lr_ratio, cooldown, start)
    if warmup == 0:
        return decay_schedule
    warmup_schedule = optax.linear_schedule(config.lr / warmup, config.lr, warmup - 1)
    return optax.join_schedules([warmup_schedule, decay_schedule], [warmup])


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule | float) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter, 2019) with PyTorch's arithmetic and defaults, and clipping by global norm before it.

    Or Muon in place of Adam for the layers' matrices.

    Args:
      config: which, betas, eps, weight decay and what decays, and the largest norm, 0 for no clipping.
      schedule: learning rate by step.
    """
    mask = matrices if config.decay == "matrices" else None
    scale = adam(config.beta1, config.beta2, config.eps)
    if config.optimizer == "muon":
        scale = muon(config.muon_beta, scale)
    decayed = optax.chain(
        scale,
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.scale_by_learning_rate(schedule),
    )
    return optax.chain(optax.clip_by_global_norm(config.grad_clip), decayed) if config.grad_clip else decayed


def updates_done(opt_state: optax.OptState) -> int:
    """How many updates of the weights an optimizer has made: a run's steps but for those that were skipped."""
    (_, count), *_ = optax.tree.get_all_with_path(opt_state, "count")
    return int(count)


def adam(beta1: float, beta2: float, eps: float) -> optax.GradientTransformationExtraArgs:
    """optax.scale_by_adam (Kingma & Ba, 2015, algorithm 1) that can skip a step and leave the moments as they are.

    Its update takes `is_finite`, bool (): False for a step that is skipped. The choice is made here, on the new moments
    alone: after optax's own, XLA would keep the old ones in a copy.
    """

    def update(
        grads: Any, state: optax.ScaleByAdamState, params: Any = None, *, is_finite: Any = True, **_: Any
    ) -> Any:
        def moment(old: Any, decay: float, power: int) -> Any:
            return jax.tree.map(lambda m, g: jnp.where(is_finite, (1 - decay) * g**power + decay * m, m), old, grads)

        mu, nu, count = moment(state.mu, beta1, 1), moment(state.nu, beta2, 2), state.count + 1
        mu_hat, nu_hat = optax.tree.bias_correction(mu, beta1, count), optax.tree.bias_correction(nu, beta2, count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu_hat, nu_hat)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam().init, update)


def matrices(params: Model) -> Any:
    """True where a model's parameter is a matrix: a kernel, an embedding, an adapter's; not a bias or a norm's scale.

    In a stack of layers a parameter has one more axis than in one layer; a bias may have one for the heads.
    """

    def is_matrix(path: tuple, leaf: Any) -> bool:
        is_bias = any("bias" in getattr(key, "name", "") for key in path)
        return leaf.ndim - (path[0].name in params.STACKS) > 1 and not is_bias

    return jax.tree_util.tree_map_with_path(is_matrix, params)
