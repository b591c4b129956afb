"""The training loop: batch, put, step, and what follows a step."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from jaxgpt.data.base import Dataset
from jaxgpt.errors import GateError, JaxgptError
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.progress import Run
from jaxgpt.training.log import MetricsLog
from jaxgpt.training.setup import CompiledTrainer
from jaxgpt.training.validation import Validator


class Observer(Protocol):
    """Watches a run and changes nothing."""

    def before_step(self, run: Run) -> None: ...

    def after_step(self, run: Run, metrics: dict[str, Any]) -> None: ...


def train(
    run: Run,
    steps: int,
    data: Dataset,
    trainer: CompiledTrainer,
    log: MetricsLog,
    checkpoints: Checkpoints,
    stop_requested: Callable[[], bool] = lambda: False,
    validator: Validator | None = None,
    observers: Sequence[Observer] = (),
) -> Run:
    """Train until `steps` are done or a stop is requested; the last step is saved.

    Args:
      run: where it stands; its state's memory is taken over.
      steps: the length of the run, the steps before included.
      data: batches of one step, in the rows of this process.
      trainer: the compiled step, and the way to the devices.
      log, checkpoints: where the run is kept.
      stop_requested: asked once a step, by all processes alike.
      validator: measures validation data and bias when they are due.
      observers: called before and after each step.

    Returns:
      The run after its last step.

    Raises:
      NumericsError: a loss or a gradient is not finite; that step is not saved.
      JaxgptError: the data, or those of a validation, have an error; the run before it is saved.
      GateError: a measurement is worse than what the validator allows; that step is saved.
    """
    saved = run.step
    with jax.transfer_guard("disallow"):  # trainer.put is the only host-to-device transfer
        if validator and run.unvalidated:
            if not (numbers := validator(run.state.model, run.step)):
                return run
            log.amend(numbers)
            run = validator.update(run, numbers)
            if refusal := validator.refusal(numbers):
                raise GateError(refusal)
        while run.step < steps:
            for observer in observers:
                observer.before_step(run)
            try:
                batch, next_position = data.batch(run.position, run.state.model)
            except JaxgptError:  # of a reward function, for one
                if run.step > saved and jax.process_count() == 1:  # others would be waited for, who have no error
                    log.flush()
                    checkpoints.save(run)
                raise
            state, metrics = trainer.step(run.state, trainer.put(batch))
            previous, run = run, run.advance(state, next_position, data.B * data.T)
            numbers, failure = {}, None
            if validator and validator.due(run.step):
                try:
                    with log.pause(metrics):
                        numbers = validator(state.model, run.step)
                except JaxgptError as error:
                    failure = error
                if refusal := validator.refusal(numbers):
                    failure = GateError(refusal)
                run = validator.update(run, numbers)
            log.add(previous, run, metrics, numbers)
            for observer in observers:
                observer.after_step(run, metrics)
            stop = stop_requested() or failure is not None
            if stop or run.step == steps or checkpoints.due(run):
                log.flush()  # which ends a run whose loss is not finite, before that state is saved
                checkpoints.save(run)
                saved = run.step
            if failure:
                raise failure
            if stop:
                break
    return run
