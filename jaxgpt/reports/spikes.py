"""Loss spikes: steps whose loss is far above that of the steps before."""

import dataclasses
import math

import numpy as np

WINDOW = 50  # steps before a step, to which it is compared
FEWEST = 10  # of them
SIGMAS = 8.0  # above their median, with a deviation by theirs from it: one step in 10**15 of normal noise
RISE = 0.03  # and so much above it, relatively: a loss that hardly varies has no spikes
APART = 10  # steps within which it is one spike
CHUNK = 1 << 14  # windows at a time


@dataclasses.dataclass(frozen=True)
class Spike:
    """A spike at its highest step.

    Attributes:
      step, loss: of that step; the loss is NaN if it was not finite.
      usual: the median of the losses before; NaN, too, if it was not finite.
    """

    step: int
    loss: float
    usual: float


def find_spikes(steps: np.ndarray, losses: np.ndarray) -> list[Spike]:
    """The spikes of a run in the order of their steps, and the steps that were skipped since a number was not finite.

    Args:
      steps: int64 (n,), ascending.
      losses: (n,), NaN for a skipped step.
    """
    present, absent = np.flatnonzero(np.isfinite(losses)), np.flatnonzero(~np.isfinite(losses))
    usual, limit = _limits(losses[present])
    spikes: list[Spike] = []
    last = -np.inf
    for i in np.flatnonzero(losses[present] > limit).tolist():
        spike = Spike(int(steps[present[i]]), float(losses[present[i]]), float(usual[i]))
        if spike.step - last <= APART:
            spikes[-1] = max(spikes[-1], spike, key=lambda each: each.loss)
        else:
            spikes.append(spike)
        last = spike.step
    spikes += [Spike(step, math.nan, math.nan) for step in steps[absent].tolist()]
    return sorted(spikes, key=lambda each: each.step)


def _limits(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median of the losses before each, and the loss above which it is a spike; both (n,)."""
    usual, limit = np.full(len(losses), np.nan), np.full(len(losses), np.inf)
    for i in range(FEWEST, min(WINDOW, len(losses))):
        usual[i], limit[i] = (each[0] for each in _limits_of(losses[None, :i]))
    if len(losses) > WINDOW:
        windows = np.lib.stride_tricks.sliding_window_view(losses[:-1], WINDOW)
        for start in range(0, len(windows), CHUNK):
            to = slice(WINDOW + start, WINDOW + start + CHUNK)
            usual[to], limit[to] = _limits_of(windows[start : start + CHUNK])
    return usual, limit


def _limits_of(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    median = np.median(windows, axis=-1)
    deviation = 1.4826 * np.median(np.abs(windows - median[:, None]), axis=-1)  # 1.4826: a normal distribution's
    return median, median + np.maximum(SIGMAS * deviation, RISE * np.abs(median))
