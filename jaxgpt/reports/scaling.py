"""A scaling law of finished runs: Hoffmann et al. (2022), "Training Compute-Optimal Large Language Models", 3.3.

    L(N, D) = E + A / N^alpha + B / D^beta    of N parameters, trained on D tokens, in nats

The Huber loss of the logarithms is minimized by BFGS from several starts; the intervals are bootstrapped.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult, minimize, nnls

DELTA = 1e-3  # where the Huber loss turns from a square into a line
EXPONENTS = np.linspace(0.05, 1.2, 24)  # of alpha and beta: for each pair the best E, A and B are a start
STARTS = 5  # of which the best are minimized from
FEWEST = 6  # models that differ in N or D: one more than the law has parameters
RESAMPLES = 200


class ScalingLaw(NamedTuple):
    """The five numbers of the law."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, N: np.ndarray, D: np.ndarray) -> np.ndarray:
        """The loss in nats for these numbers of parameters and tokens, float64, of their shape."""
        return self.E + self.A / np.float64(N) ** self.alpha + self.B / np.float64(D) ** self.beta


def fit(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> ScalingLaw:
    """The law of some runs, each float64 (n,): parameters, tokens, and the loss in nats.

    Raises:
      ValueError: there are too few of different N or D to tell the five numbers.
    """
    require_enough(N, D)
    starts = sorted(_start(alpha, beta, N, D, loss) for alpha, beta in itertools.product(EXPONENTS, EXPONENTS))
    best = min((_minimize(x, N, D, loss) for _, x in starts[:STARTS]), key=lambda each: each.fun)
    return _law(best.x)


def bootstrap(law: ScalingLaw, N: np.ndarray, D: np.ndarray, loss: np.ndarray, seed: int = 0) -> list[ScalingLaw]:
    """The laws of RESAMPLES draws, with replacement, of the runs; each is fitted from `law`.

    Raises:
      ValueError: too many draws tell no law.
    """
    draw, laws = np.random.default_rng(seed), []
    start = (np.log(law.A), np.log(law.B), np.log(law.E), law.alpha, law.beta)
    for _ in range(10 * RESAMPLES):
        chosen = draw.integers(0, len(N), len(N))
        if _is_enough(N[chosen], D[chosen]):
            drawn = _law(_minimize(start, N[chosen], D[chosen], loss[chosen]).x)
            laws += [drawn] if np.isfinite(drawn).all() else []
        if len(laws) == RESAMPLES:
            return laws
    raise ValueError("the runs are too few, or too alike, for a scaling law's intervals")


def interval(values: list[float]) -> tuple[float, float]:
    """Where the middle 95 % of some values are."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def require_enough(N: np.ndarray, D: np.ndarray) -> None:
    if not _is_enough(N, D):
        raise ValueError(
            f"a scaling law needs {FEWEST} runs or more that differ in parameters or tokens, with 3 numbers of each"
        )


def _is_enough(N: np.ndarray, D: np.ndarray) -> bool:
    different = len(set(zip(N.tolist(), D.tolist(), strict=True)))
    return different >= FEWEST and len(set(N.tolist())) >= 3 and len(set(D.tolist())) >= 3


def _start(alpha: float, beta: float, N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> tuple[float, tuple]:
    """With these exponents, the smallest relative error of any E, A and B, and the minimizer's x for them."""
    terms = np.stack([N**-alpha, D**-beta, np.ones_like(N)], axis=1)
    scale = terms.max(axis=0)
    numbers, error = nnls(terms / scale / loss[:, None], np.ones_like(N))
    return error, (*np.log(np.maximum(numbers, 1e-6) / scale), alpha, beta)


def _minimize(start: tuple, N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> OptimizeResult:
    """Minimize over x = (log A, log B, log E, alpha, beta)."""
    log_N, log_D, log_loss = np.log(N), np.log(D), np.log(loss)

    def huber(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = x
        terms = np.stack([a - alpha * log_N, b - beta * log_D, np.full_like(log_N, e)])
        predicted = np.logaddexp.reduce(terms)
        residual = predicted - log_loss
        size = np.abs(residual)
        value = np.where(size <= DELTA, residual**2 / 2, DELTA * (size - DELTA / 2)).sum()
        share = np.exp(terms - predicted) * np.clip(residual, -DELTA, DELTA)  # of each term in the gradient
        slopes = [*share.sum(axis=1), -(share[0] * log_N).sum(), -(share[1] * log_D).sum()]
        return 1e6 * value, 1e6 * np.array(slopes)  # it is small against the minimizer's tolerances

    return minimize(huber, start, jac=True, method="BFGS", options={"maxiter": 500, "gtol": 1e-5})


def _law(x: np.ndarray) -> ScalingLaw:
    a, b, e, alpha, beta = x
    return ScalingLaw(*map(float, (np.exp(e), np.exp(a), np.exp(b), alpha, beta)))
