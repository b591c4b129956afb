"""Validation: the loss on data that is not trained on, with its standard error, and the best so far."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from jaxgpt.data.base import Dataset
from jaxgpt.inference.answer_metrics import SCORE_NAMES
from jaxgpt.progress_bar import stage
from jaxgpt.runs.progress import Best, Run
from jaxgpt.training.bias import BiasMonitor
from jaxgpt.training.val_answers import AnswerScorer

ALSO = "_loss_stderr"  # the end of the name of a number that each further text has


def summarize(batches: Iterable[dict[str, tuple[Any, Any]]], num_bytes: int | None = None) -> dict[str, float]:
    """The numbers of a measurement.

    Args:
      batches: the Metrics of each batch, as Objective.validation_metrics gives them.
      num_bytes: UTF-8 bytes of the text that is predicted; None: it is no text.

    Returns:
      `loss`, the mean in nats; `loss_stderr`, its standard error, with each token (or label) taken for a draw of its
      own, if there is a "loss_squared"; for a text `perplexity`, exp(loss), `bits_per_byte`, which compares models of
      any tokenizer, `tokens`, those that were predicted, and `bytes`; else `n`, how many were; and the means of all
      other metrics.
    """
    totals: dict[str, tuple[float, float]] = {}
    for metrics in batches:  # in float64
        for name, (value, count) in metrics.items():
            total, total_count = totals.get(name, (0.0, 0.0))
            totals[name] = total + float(value), total_count + float(count)
    total, weight = totals.pop("loss")
    loss = total / weight if weight else math.nan  # of a short text no token may be masked
    n = totals.get("accuracy", (0, weight))[1]  # pairs of answers may count more than once, or less, in the loss alone
    numbers = {"loss": loss}
    if "loss_squared" in totals:
        variance = max(totals.pop("loss_squared")[0] / (weight or 1) - loss**2, 0.0) * n / max(n - 1, 1)
        numbers["loss_stderr"] = math.sqrt(variance / n) if n else math.nan
    other_means = {name: value / count if count else math.nan for name, (value, count) in totals.items()}
    if num_bytes is None:
        return numbers | other_means | {"n": int(n)}
    numbers["perplexity"] = math.inf if loss >= 700 else math.exp(loss)
    numbers["bits_per_byte"] = total / math.log(2) / num_bytes if num_bytes else math.nan
    return numbers | {"tokens": int(n), "bytes": num_bytes} | other_means


def format_metrics(numbers: dict[str, float]) -> str:
    """A measurement in a line."""
    text = f"loss {numbers['loss']:.4f}"
    if "loss_stderr" in numbers:
        text += f" ± {numbers['loss_stderr']:.4f}"
    if "perplexity" in numbers:
        text += f", perplexity {numbers['perplexity']:,.2f}, {numbers['bits_per_byte']:.4f} bits per byte"
    if "bits_per_masked_token" in numbers:
        text += f", {numbers['bits_per_masked_token']:.4f} bits per masked token"
    losses_ahead = [
        f"{value:.4f}" for name, value in numbers.items() if name.startswith("loss_") and name[5:].isdecimal()
    ]
    if losses_ahead:
        text += f"; further ahead {', '.join(losses_ahead)}"
    text += "".join(f", {name} {value:.4f}" for name, value in numbers.items() if name in SCORE_NAMES)
    for name in (name.removesuffix(ALSO) for name in numbers if name.endswith(ALSO)):
        text += f"; {name} {numbers[f'{name}_loss']:.4f} ± {numbers[f'{name}{ALSO}']:.4f}"
    if "accuracy" in numbers:
        text += f", accuracy {numbers['accuracy']:.4f} of {numbers['n']:,}"
    return text


@dataclasses.dataclass(frozen=True)
class Validator:
    """Measures validation data, and the model's bias, at times of a run.

    Attributes:
      data: the validation data, in the rows of this process; None: there is none.
      put, measure: those of setup.CompiledTrainer.
      every: steps between two measurements; 0: only after the last step.
      steps: the length of the run.
      interrupted: whether to stop measuring, since a signal has come.
      max_drop: the most that chosen answers may lose of their log-probability, in nats; None: anything.
      scorer: measures answers that a model writes; None: it writes none.
      best_by: which number decides what is the best: the loss, or a score of answers.
      also: further texts by their names, of each of which the loss is measured.
      monitor: measures bias, at times of its own; None: it is not measured.
    """

    data: Dataset | None
    put: Callable[[Any], Any]
    measure: Callable[[Any, Any], Any]
    every: int
    steps: int
    interrupted: Callable[[], bool] = lambda: False
    max_drop: float | None = None
    scorer: AnswerScorer | None = None
    best_by: str = "loss"
    also: Mapping[str, Dataset] = dataclasses.field(default_factory=dict)
    monitor: BiasMonitor | None = None

    def due(self, step: int) -> bool:
        """Whether to measure anything after so many steps."""
        return self.data_due(step) or (self.monitor is not None and self.monitor.due(step))

    def data_due(self, step: int) -> bool:
        """Whether to measure the validation data."""
        return self.data is not None and (step == self.steps or (self.every > 0 and step % self.every == 0))

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """What is due of a model after so many steps, or all if nothing is; none if it is interrupted."""
        numbers, parts = {}, []
        any_due = self.due(step)  # else a flag has changed since a signal came, and all is measured
        if self.data is not None and (self.data_due(step) or not any_due):
            parts.append(self._measure_texts)
        if self.monitor and (self.monitor.due(step) or not any_due):
            parts.append(self.monitor)
        for measure in parts:
            if not (measured := measure(model)):
                return {}
            numbers |= measured
        return numbers

    def _measure_texts(self, model: Any) -> dict[str, float]:
        """The losses of all texts, and the scores of answers; none if it is interrupted."""
        numbers = self.measure_data(self.data, model)
        for name, data in self.also.items():
            further = numbers and self.measure_data(data, model)
            if not further:
                return {}
            numbers |= {f"{name}_loss": further["loss"], f"{name}{ALSO}": further["loss_stderr"]}
        if self.scorer is None or not numbers:
            return numbers
        scores = self.scorer(model)
        return numbers | scores if scores else {}

    def measure_data(self, data: Dataset, model: Any) -> dict[str, float]:
        """The numbers of `summarize` for a model on some data; none if it is interrupted."""
        metrics = []
        with stage("validation", data.num_rows(), quiet_s=30) as advance:
            for batch in data.one_pass(model):
                if self.interrupted():
                    return {}
                local = {name: array[data.rows] for name, array in batch.items()}
                metrics.append(jax.device_get(self.measure(model, self.put(local))))
                advance(data.B)
        return summarize(metrics, data.num_bytes())

    def refusal(self, numbers: dict[str, float]) -> str:
        """Why a run must end with these numbers; "" if it may continue."""
        if self.monitor and (refusal := self.monitor.refusal(numbers)):
            return refusal
        if self.max_drop is None or not (drop := numbers.get("chosen_drop", 0.0)) > self.max_drop:
            return ""
        lost = f"the chosen answers of {self.data.name} have lost {drop:.4g} nats of log-probability"
        remedy = "start over (--fresh) with a lower --lr or a higher --beta"
        return f"{lost}, and --max-drop allows {self.max_drop:g}; {remedy}"

    def update(self, run: Run, numbers: dict[str, float]) -> Run:
        """The run with the best so far, now that these numbers are known; none were if it was interrupted.

        What is refused counts as unvalidated: the same command measures it again, and does not train on.
        """
        by, best = self.best_by, run.best
        if not math.isnan(numbers.get("loss", math.nan)):
            of = f"{self.data.fingerprint} in windows of {self.data.T}"
            if by != "loss":
                of += f", {len(self.scorer.data)} answers"
            new = Best(run.step, numbers["loss"], of, by, None if by == "loss" else numbers[by])
            if not (best and (best.of, best.by) == (of, by) and new.rank <= best.rank):
                best = new
        return dataclasses.replace(run, best=best, unvalidated=not numbers or bool(self.refusal(numbers)))
