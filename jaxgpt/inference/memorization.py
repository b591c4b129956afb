"""How well a model remembers canaries, made-up secrets that stood in its training text: their exposure.

Carlini et al., 2019, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks", section 4.
No JAX: what a canary needs of a model is known before it is imported.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import rich.table

from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.prepare.canaries import DIGITS, SPACE, Canary, format_text, make_secrets

if TYPE_CHECKING:
    from jaxgpt.inference.score import Score

REFERENCES = 4095  # secrets that a canary's are compared with: rank 1 of 4,096 is 12 bits
NUM_GIVEN_DIGITS = 4  # digits of a secret in the prompt; the model is to write the others
EXPLANATION = f"""\
exposure: bits of a secret that the model gives away; at x bits, one in 2^x of all secrets is as likely to it.
A secret that it has never seen has 1.44 on average. Each is ranked among {REFERENCES:,} that were not planted, so that
{math.log2(REFERENCES + 1):.0f} is the largest that can be seen; extrapolated, an estimate, {math.log2(SPACE):.1f}.
written out: given the first {NUM_GIVEN_DIGITS} digits, the model finds each of the others the likeliest."""

Request = tuple[list[int], list[int]]  # as in score.Request


def exposure(losses: Sequence[float], references: Sequence[float]) -> np.ndarray:
    """log2 |R| - log2(rank) of each canary, in bits; its rank among all is estimated from that among the references.

    So it is log2(M + 1) - log2(rank among M references and itself), at most log2(M + 1): a floor for a canary that has
    rank 1. It is exact if the references are all other secrets. Of equals a canary comes last.

    Args:
      losses: of canaries, a sum of nats over the tokens of a secret.
      references: of M secrets that were drawn as they were, and not planted (section 4.3, by sampling).

    Returns:
      float64, one for each of `losses`.
    """
    ordered = np.sort(np.asarray(references, np.float64))
    rank = 1 + np.searchsorted(ordered, np.asarray(losses, np.float64), side="right")
    return math.log2(len(ordered) + 1) - np.log2(rank)


def extrapolated(losses: Sequence[float], references: Sequence[float]) -> np.ndarray:
    """The exposure that a skew-normal distribution of the references' losses gives (section 4.3), at most log2 |R|.

    An estimate, which tells canaries beyond all references apart, as far as the losses have that shape.
    The distribution is fitted by its first three moments. float64, one for each of `losses`, in bits.
    """
    references = np.asarray(references, np.float64)
    mean, deviation = references.mean(), references.std()
    if not deviation > 0:  # a model for which all secrets are alike
        return exposure(losses, references)
    skewness = float(np.clip((((references - mean) / deviation) ** 3).mean(), -0.99, 0.99))  # none has 0.9953 or more
    power = abs(skewness) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * power / (power + ((4 - math.pi) / 2) ** (2 / 3))), skewness)
    scale = deviation / math.sqrt(1 - 2 * delta**2 / math.pi)
    location = mean - scale * delta * math.sqrt(2 / math.pi)
    shape = delta / math.sqrt(1 - delta**2)
    tails = [_skew_normal_cdf((loss - location) / scale, shape) for loss in losses]
    return np.array([min(-math.log2(max(tail, 1 / SPACE)), math.log2(SPACE)) for tail in tails])


def _skew_normal_cdf(z: float, shape: float) -> float:
    """The integral of 2 phi(t) Phi(shape t) up to z: by the trapezoidal rule, which keeps the digits of a far tail."""
    t = np.linspace(min(z, 0.0) - 12, min(z, 12.0), 8001)
    normal = np.array([math.erfc(-shape * each / math.sqrt(2)) / 2 for each in t])
    return min(1.0, float(np.trapezoid(2 * np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) * normal, t)))


# ---- A model's -----------------------------------------------------------------------------------------------------


def measure(
    canaries: Sequence[Canary], tokenizer: Tokenizer, score: Callable[[list[Request]], list["Score"]]
) -> dict[str, Any]:
    """How well a model remembers canaries, by how often each stood in the text.

    Args:
      tokenizer: the model's.
      score: score.score of the model. Only the tokens of secrets count.

    Returns:
      `space`; `references`; `largest`, the highest exposure that can be seen; `by_repeats`, a list with, for each
      number of `repeats`, the number of `canaries`, the mean and highest exposure, the mean extrapolated one, and how
      many were `written`: given the first four digits, the model finds each of the others the likeliest; `each`,
      the same for each canary.

    Raises:
      CheckpointError: a loss is not a number.
    """
    reference_secrets = make_secrets("reference", REFERENCES, without=[each.secret for each in canaries])
    secrets = [*reference_secrets, *(each.secret for each in canaries)]
    requests = [make_request(tokenizer, secret) for secret in secrets]
    scores = score(requests + [make_request(tokenizer, each.secret, NUM_GIVEN_DIGITS) for each in canaries])
    losses = [-each.log_likelihood for each in scores]
    if not all(map(math.isfinite, losses)):
        raise CheckpointError("the model's losses are no numbers, so its memory can't be measured; use another model")
    references, canary_losses = losses[:REFERENCES], losses[REFERENCES : len(requests)]
    rows = [
        {"secret": each.secret, "repeats": each.repeats, "loss": loss, "exposure": seen, "extrapolated": beyond}
        | {"written": written.is_greedy}
        for each, loss, seen, beyond, written in zip(
            canaries,
            canary_losses,
            exposure(canary_losses, references).tolist(),
            extrapolated(canary_losses, references).tolist(),
            scores[len(requests) :],
            strict=True,
        )
    ]
    return {
        "space": SPACE,
        "references": REFERENCES,
        "largest": math.log2(REFERENCES + 1),
        "by_repeats": [_summarize(repeats, rows) for repeats in sorted({each.repeats for each in canaries})],
        "each": rows,
    }


def _summarize(repeats: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for row in rows if row["repeats"] == repeats]
    seen = [row["exposure"] for row in rows]
    return {
        "repeats": repeats,
        "canaries": len(rows),
        "exposure_mean": sum(seen) / len(rows),
        "exposure_max": max(seen),
        "extrapolated_mean": sum(row["extrapolated"] for row in rows) / len(rows),
        "written": sum(row["written"] for row in rows),
    }


def make_request(tokenizer: Tokenizer, secret: str, num_given: int = 0) -> tuple[list[int], list[int]]:
    """For score.score: a document's beginning with the first `num_given` digits, and the tokens of the others.

    Raises:
      UsageError: a token has parts of both.
    """
    text = format_text(secret)
    ids = tokenizer.encode(text).tolist()
    ends = list(itertools.accumulate(len(tokenizer.token_bytes(token)) for token in ids))
    # The text is ASCII; each digit has a space before it, and the last one a full stop behind it.
    borders = [len(text) - 1 - 2 * (DIGITS - num_given), len(text) - 1]
    if not set(borders) <= set(ends):
        raise UsageError(f"--canaries: the tokenizer {tokenizer.name} has tokens of several digits; leave it out")
    first, last = (ends.index(border) + 1 for border in borders)
    begin = [] if tokenizer.end is None else [tokenizer.end]
    return begin + ids[:first], ids[first:last]


def make_table(results: dict[str, Any]) -> rich.table.Table:
    """The results of `measure`, a row for each number of repeats."""
    table = rich.table.Table("in the text", "canaries", "mean exposure", "highest", "mean, extrapolated", "written out")
    for row in results["by_repeats"]:
        bits = (row["exposure_mean"], row["exposure_max"], row["extrapolated_mean"])
        times = "once" if row["repeats"] == 1 else f"{row['repeats']:,} times"
        table.add_row(times, f"{row['canaries']:,}", *(f"{each:.2f}" for each in bits), f"{row['written']:,}")
    return table
