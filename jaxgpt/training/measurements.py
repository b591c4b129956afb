"""What a run measures of its model at times, from its flags: validation texts, written answers, bias."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxgpt.data.base import Dataset
from jaxgpt.data.datasets import load_val_also
from jaxgpt.data.references import AnsweredPrompts
from jaxgpt.data.text import Text
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.training.bias import BiasMonitor, load_monitor
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.val_answers import AnswerScorer, load_val_prompts

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.objectives.base import Objective
    from jaxgpt.training.setup import CompiledTrainer
    from jaxgpt.training.validation import Validator


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What is measured beside the validation data.

    Attributes:
      also: the texts of --val-also, by their names.
      prompts: those of --val-generate; None: there are none.
      monitor: what --bias and --bias-text name; None: nothing.
    """

    also: dict[str, Text]
    prompts: AnsweredPrompts | None
    monitor: BiasMonitor | None


def load_measurements(config: TrainConfig, data: Dataset, validation: Dataset | None) -> Measurements:
    """Read the files that the flags name.

    Raises:
      DataError, UsageError: one can't be read, or is nothing for this model or data.
    """
    prompts, shape = load_val_prompts(config, validation), config.model_config()
    monitor = load_monitor(config.bias, data.tokenizer, shape.block_size, shape.bidirectional)
    return Measurements(load_val_also(config.data, data), prompts, monitor)


def require_measurable(config: TrainConfig, n_devices: int, objective: "Objective") -> None:
    """Refuse what one device measures where a run has several, and the bias of a model that scores no text."""
    for is_given, what in (
        (config.run.sample_prompt is not None, "--sample-prompt continues it"),
        (config.run.val_generate is not None, "--val-generate writes"),
        (config.bias.is_on, "--bias and --bias-text measure"),
    ):
        if is_given and n_devices > 1:
            raise UsageError(f"{what} on one device; leave it out, or add --mesh data=1")
    if config.bias.is_on and objective.labels:
        raise UsageError("--bias and --bias-text: a model of labels or rewards scores no text; leave them out")


def make_validator(
    config: TrainConfig,
    validation: Dataset | None,
    measurements: Measurements,
    compiled: "CompiledTrainer",
    tokenizer: Tokenizer,
    base: Any,
    interrupted: Callable[[], bool],
) -> "Validator | None":
    """What measures all of it in a run; None: there is nothing to measure.

    Args:
      validation: the validation data, in the rows of this process; None: there is none.
      base: frozen weights under adapters; None: there are none.
      interrupted: whether to stop measuring, since a signal has come.
    """
    from jaxgpt.training.validation import Validator

    run, B, monitor = config.run, config.data.B, measurements.monitor
    if not (validation or monitor):
        return None
    scorer = None
    if measurements.prompts:
        scorer = AnswerScorer(measurements.prompts, run.val_metric_names, tokenizer, B, base, interrupted)
    if monitor:
        monitor = dataclasses.replace(monitor, steps=run.steps, batch_size=B, base=base, interrupted=interrupted)
    return Validator(
        validation,
        compiled.put,
        compiled.measure,
        run.eval_every,
        run.steps,
        interrupted,
        config.post_training.max_drop,
        scorer,
        run.best_by,
        {name: dataclasses.replace(text, rows=validation.rows) for name, text in measurements.also.items()},
        monitor,
    )
