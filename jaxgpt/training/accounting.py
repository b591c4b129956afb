"""What DP-SGD promises: epsilon of a number of steps, and the noise that a promise needs; by Google's dp-accounting.

The privacy loss distribution of the Poisson-sampled Gaussian mechanism (Koskela et al., 2020; Doroshenko et al., 2022,
"Connect the Dots"), composed with itself. Neighbours differ in one unit, which one of them lacks. Every number is an
upper bound, whose error is below one in a thousand.
"""

import functools
import math

from dp_accounting.pld import privacy_loss_distribution

LEAST_NOISE = 0.3  # with less, one step alone has a large epsilon
MOST_NOISE = 1e6
DIGITS = 4  # of the multiplier: it is rounded up, so that versions of the library agree
MARKS = 20  # of a run, at which epsilon is computed


def epsilon_after(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon of so many steps.

    Args:
      noise_multiplier: the noise's standard deviation, as a multiple of the clipping norm.
      rate: the probability with which a step draws a unit, above 0, up to 1.
    """
    if not steps:
        return 0.0
    losses = _losses_of_step(noise_multiplier, rate, min(1e-3, max(1e-4, 1e-2 / math.sqrt(steps))))
    return max(0.0, losses.self_compose(steps).get_epsilon_for_delta(delta))


@functools.lru_cache(maxsize=2)
def _losses_of_step(
    noise_multiplier: float, rate: float, interval: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    options = {"sampling_prob": rate, "value_discretization_interval": interval, "use_connect_dots": True}
    return privacy_loss_distribution.from_gaussian_mechanism(noise_multiplier, **options)


def noise_multiplier_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The smallest noise multiplier whose steps have at most this epsilon, rounded up; at least LEAST_NOISE.

    Raises:
      ValueError: there is none up to MOST_NOISE.
    """

    def excess(noise_multiplier: float) -> float:
        return math.log(max(epsilon_after(noise_multiplier, rate, steps, delta), 1e-300) / epsilon)

    # Where the central limit theorem has it (Bu et al., 2020, corollary 5.4): far from there a number takes long.
    spread = math.sqrt(2 * math.log(1 / delta))
    mu = math.sqrt(spread**2 + 2 * epsilon) - spread
    guess = 1 / math.sqrt(math.log1p((mu / rate) ** 2 / steps))
    low = high = min(max(guess, LEAST_NOISE), MOST_NOISE)
    above = below = excess(low)
    while below > 0:
        if high >= MOST_NOISE:
            raise ValueError(f"no noise multiplier up to {MOST_NOISE:,.0f} is enough")
        low, above, high = high, below, 1.2 * high
        below = excess(high)
    while above <= 0:
        if low <= LEAST_NOISE:
            return LEAST_NOISE
        high, below, low = low, above, max(LEAST_NOISE, low / 1.2)
        above = excess(low)
    while high - low > 10.0**-DIGITS / 2:  # false position, and a margin so that both ends move
        middle = low + (high - low) * above / (above - below)
        middle = min(max(middle, low + (high - low) / 20), high - (high - low) / 20)
        value = excess(middle)
        low, above, high, below = (low, above, middle, value) if value <= 0 else (middle, value, high, below)
    return math.ceil(high * 10**DIGITS) / 10**DIGITS


class EpsilonByStep:
    """Epsilon of the steps done: the exact number at MARKS points of a run, and between two that of the next one.

    A number costs a tenth of a second; so no step waits for one more than once in a while.
    """

    def __init__(self, noise_multiplier: float, rate: float, steps: int, delta: float):
        self._every, self._steps = max(1, steps // MARKS), steps
        self._compute = functools.lru_cache(maxsize=1)(lambda done: epsilon_after(noise_multiplier, rate, done, delta))

    def __call__(self, done: int) -> float:
        """An upper bound of the epsilon of so many steps."""
        return self._compute(min(self._steps, -(-done // self._every) * self._every))
