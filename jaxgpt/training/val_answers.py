"""Answers to validation prompts, written at each validation and scored by their references."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgpt.data.base import Dataset
from jaxgpt.data.examples import draw_validation
from jaxgpt.data.references import AnsweredPrompts, load_references, strip_separator
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.inference.answer_metrics import require_metrics, score_answers
from jaxgpt.training.config import TrainConfig


def load_val_prompts(config: TrainConfig, validation: Dataset | None) -> AnsweredPrompts | None:
    """The prompts of --val-generate: so many of the validation data, evenly spaced; None without the flag.

    Raises:
      UsageError: the validation data has no answers to prompts, or a library of --val-metrics is not installed.
    """
    if config.run.val_generate is None:
        return None
    require_metrics(config.run.val_metric_names)
    if validation is None or validation.kind != "completions":
        raise UsageError(f"--val-generate: {config.data.val} has no prompts with completions; leave it out")
    path = config.data.data if config.data.val_fraction else config.data.val
    data = load_references(path, config.fields, validation.tokenizer)
    if config.data.val_fraction:
        data = data.take(np.flatnonzero(draw_validation(len(data), config.data.val_fraction)))
    return data.take(np.linspace(0, len(data) - 1, min(config.run.val_generate, len(data))).round().astype(int))


class _Interrupted(Exception):
    """A signal came."""


@dataclasses.dataclass(frozen=True)
class AnswerScorer:
    """Writes the likeliest answers to prompts, and scores them.

    An answer has the end token and at most twice as many tokens as the longest reference, or the model's context if
    that is less: training cuts an example there, and a model at its beginning ends no answer.

    Attributes:
      data: the prompts, with references.
      metrics: of answer_metrics.METRICS.
      tokenizer: of the prompts.
      batch_size: prompts at a time.
      base: frozen weights under adapters; None: there are none.
      interrupted: whether to stop, since a signal has come.
    """

    data: AnsweredPrompts
    metrics: tuple[str, ...]
    tokenizer: Tokenizer
    batch_size: int
    base: Any = None
    interrupted: Callable[[], bool] = lambda: False

    def __call__(self, model: Any) -> dict[str, float]:
        """The scores of a model's answers, by the names of answer_metrics.SCORES; none if it is interrupted."""
        import jax

        from jaxgpt.inference.complete import complete
        from jaxgpt.inference.sampling import make_sampling_params
        from jaxgpt.models.lora import combine

        def stop_if_interrupted(_: int) -> None:
            if self.interrupted():
                raise _Interrupted

        longest = max(len(self.tokenizer.encode(text)) for texts in self.data.references for text in texts)
        greedy = make_sampling_params(temperature=0, stop=self.tokenizer.end)
        try:
            with jax.transfer_guard("allow"):
                model = combine(model, self.base)
                options = min(2 * longest, model.config.block_size) + 1, self.batch_size, greedy
                written = complete(model, self.data.tokens, *options, on_progress=stop_if_interrupted)
        except _Interrupted:
            return {}
        answers = [strip_separator(self.tokenizer.decode(ids)) for ids in written]
        return {name: score.value for name, score in score_answers(self.metrics, answers, self.data.references).items()}
