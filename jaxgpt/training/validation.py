"""The loss on what is held out: its mean, its standard error, and what they are in other units."""

import math
from collections.abc import Iterable
from typing import Any


def measured(sums: Iterable[dict[str, Any]], size: int | None = None) -> dict[str, float]:
    """The numbers of a measurement.

    Args:
      sums: of each batch, as objectives.Objective.measure gives them.
      size: bytes of the whole text, the first token's included.

    Returns:
      `loss`, the mean in nats; `loss_stderr`, its standard error, with each token (or label) taken for a draw of its
      own; of tokens `perplexity`, exp(loss), `bits_per_byte`, which compares models of any tokenizer, `tokens`, those
      that were predicted, and `bytes`; of labels `accuracy` and `n`. Where several tokens are predicted, all this is
      of the next one, and `loss_2`, ... are the mean losses of those further ahead.
    """
    total: dict[str, float] = {}
    for each in sums:  # in float64
        total = {name: total.get(name, 0.0) + float(value) for name, value in each.items()}
    n = total["count"]
    loss = total["loss"] / n
    variance = max(total["squares"] / n - loss**2, 0.0) * n / max(n - 1, 1)
    found = {"loss": loss, "loss_stderr": math.sqrt(variance / n)}
    if "correct" in total:
        return found | {"accuracy": total["correct"] / n, "n": int(n)}
    bits = total["loss"] / math.log(2)
    perplexity = math.inf if loss >= 700 else math.exp(loss)
    found |= {"perplexity": perplexity, "bits_per_byte": bits / size if size else math.nan}
    ahead = [name for name in total if name.startswith("loss_")]
    further = {name: total[name] / max(total[name.replace("loss", "count")], 1) for name in ahead}
    return found | {"tokens": int(n), "bytes": size} | further


def said(numbers: dict[str, float]) -> str:
    """A measurement in a line."""
    loss = f"loss {numbers['loss']:.4f} ± {numbers['loss_stderr']:.4f}"
    if "accuracy" in numbers:
        return f"{loss}, accuracy {numbers['accuracy']:.4f} of {numbers['n']:,}"
    further = [f"{numbers[name]:.4f}" for name in numbers if name.startswith("loss_") and name != "loss_stderr"]
    further = f"; further ahead {', '.join(further)}" if further else ""
    return f"{loss}, perplexity {numbers['perplexity']:,.2f}, {numbers['bits_per_byte']:.4f} bits per byte{further}"
