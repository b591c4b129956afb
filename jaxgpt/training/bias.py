"""A model's bias, measured while it trains: numbers of `evaluate --bias` and `--bias-text`, in rows of log.jsonl."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxgpt.console import plural
from jaxgpt.data.bias_pairs import read_bias_pairs
from jaxgpt.data.mirrored import read_mirrored
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.data.word_swaps import DEFAULT, read_word_swaps
from jaxgpt.inference.bias_texts import EncodedPairs, EncodedText, encode_mirrored, encode_pairs
from jaxgpt.progress_bar import stage
from jaxgpt.training.bias_config import BiasConfig

PREFIX = "bias_"  # of the fields of a row
OF_PAIRS = ("preferred", "log_odds", "log_odds_stderr", "lms", "ss", "icat")
OF_TEXT = ("gap", "gap_stderr", "gap_per_token")
GATED = ("log_odds", "gap")


class _Interrupted(Exception):
    """A signal came."""


@dataclasses.dataclass(frozen=True)
class BiasMonitor:
    """Measures the bias of a run's model; a pure function of the weights.

    Attributes:
      pairs, text: what is measured; None: not that.
      every: steps between two measurements; 0: only after the last step.
      max_bias: how far from 0 a mean may be, in nats; None: any distance.
      steps: the length of the run.
      batch_size: sentences at a time.
      base: frozen weights under adapters; None: there are none.
      interrupted: whether to stop measuring, since a signal has come.
    """

    pairs: EncodedPairs | None
    text: EncodedText | None
    every: int = 0
    max_bias: float | None = None
    steps: int = 0
    batch_size: int = 8
    base: Any = None
    interrupted: Callable[[], bool] = lambda: False

    def __str__(self) -> str:
        parts = [plural(len(self.pairs.pairs), "pair")] if self.pairs else []
        if self.text:
            text = self.text.text
            parts.append(f"{plural(len(text.documents), text.unit)} with {text.swapped:,} swapped words")
        return ", ".join(parts)

    def due(self, step: int) -> bool:
        """Whether to measure after so many steps."""
        return step == self.steps or (self.every > 0 and step % self.every == 0)

    def __call__(self, model: Any) -> dict[str, float]:
        """The numbers by the names of their fields; none if it is interrupted."""
        import jax

        from jaxgpt.inference.bias import measure_gap, measure_pairs
        from jaxgpt.models.lora import combine

        def advance_or_stop(done: float) -> None:
            if self.interrupted():
                raise _Interrupted
            advance(done)

        numbers, total = {}, len(self.pairs.pairs) if self.pairs else 0
        total += len(self.text.text.documents) if self.text else 0
        try:
            with jax.transfer_guard("allow"), stage("bias", total, quiet_s=30) as advance:
                model, how = combine(model, self.base), (self.batch_size, advance_or_stop)
                if self.pairs:
                    measured = measure_pairs(model, self.pairs, *how)
                    numbers |= {PREFIX + name: measured[name] for name in OF_PAIRS if name in measured}
                if self.text:
                    measured = measure_gap(model, self.text, *how)
                    numbers |= {PREFIX + name: measured[name] for name in OF_TEXT}
        except _Interrupted:
            return {}
        return numbers

    def refusal(self, numbers: dict[str, float]) -> str:
        """Why a run must end with these numbers; "" if it may continue."""
        if self.max_bias is None:
            return ""
        for name in GATED:
            if not abs(value := numbers.get(PREFIX + name, 0.0)) <= self.max_bias:  # nor is a NaN allowed
                what = f"the bias {PREFIX}{name} is {value:+.4g} nats, and --max-bias allows {self.max_bias:g}"
                return f"{what}; balance the data (prepare --counterfactual), or allow more"
        return ""


def load_monitor(config: BiasConfig, tokenizer: Tokenizer, block_size: int, is_encoder: bool) -> BiasMonitor | None:
    """The monitor that the flags ask for, without what is known of the run later; None: they ask for none.

    Raises:
      DataError, UsageError: a file can't be read, or is nothing for this model.
    """
    if not config.is_on:
        return None
    pairs = text = None
    if config.bias is not None:
        pairs = encode_pairs(read_bias_pairs(config.bias), tokenizer, block_size, is_encoder)
    if config.bias_text is not None:
        mirrored = read_mirrored(config.bias_text, read_word_swaps(config.swaps or DEFAULT))
        text = encode_mirrored(mirrored, tokenizer, block_size)
    return BiasMonitor(pairs, text, config.bias_every, config.max_bias)


def format_bias(numbers: dict[str, float]) -> str:
    """The bias in a line; "" if none was measured."""
    return ", ".join(f"{name.removeprefix(PREFIX)} {value:.4f}" for name, value in numbers.items())
