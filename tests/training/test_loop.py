"""The loop with a numpy step, in milliseconds: what it asks of whom, in which order, and when it saves and stops."""

import dataclasses

import numpy as np
import pytest

from jaxgpt.data.text import Text
from jaxgpt.errors import DataError, GateError, NumericsError
from jaxgpt.runs.progress import Best, Run
from jaxgpt.training.loop import train

DATA = Text("a text", np.arange(100, dtype=np.uint16), "its hash", B=2, T=8)  # an epoch has 6 batches


class Trainer:
    """A step that adds up the first token of each batch."""

    def put(self, batch):
        return batch

    def step(self, state, batch):
        state = State([*state, int(batch["tokens"][0, 0])])
        return state, {"loss": len(state)}


class Log:
    """Keeps the rows; flushing fails if there are more than `bad`."""

    def __init__(self, bad=None):
        self.rows, self.flushed, self.bad, self.paused = [], 0, bad, 0
        self.amended = []

    def add(self, before, run, metrics, validation):
        self.rows.append((before.step, before.position, run.tokens_seen, metrics["loss"], validation))

    def flush(self):
        self.flushed = len(self.rows)
        if self.bad is not None and len(self.rows) > self.bad:
            raise NumericsError("not finite")

    def amend(self, validation):
        self.amended.append(validation)

    def pause(self, metrics):
        self.paused += 1
        return pytest.MonkeyPatch.context()  # any context


class Checkpoints:
    def __init__(self, every=0):
        self.every, self.saved = every, []

    def due(self, run):
        return bool(self.every and run.step % self.every == 0)

    def save(self, run):
        self.saved.append(run)


class Validator:
    """Due every third step; the loss falls until step 6."""

    def due(self, step):
        return step % 3 == 0

    def __call__(self, model, step):
        return {"loss": abs(len(model) - 6.0)}

    def update(self, run, numbers):
        if not numbers:
            return dataclasses.replace(run, unvalidated=True)
        best = run.best if run.best and run.best.loss <= numbers["loss"] else Best(run.step, numbers["loss"], "data")
        return dataclasses.replace(run, best=best, unvalidated=False)

    def refusal(self, numbers):
        return ""


class State(list):
    """A list is its own model."""

    @property
    def model(self):
        return self


def run_loop(run=None, steps=7, log=None, checkpoints=None, data=DATA, **more):
    log, checkpoints = log or Log(), checkpoints or Checkpoints()
    return train(run or Run(State()), steps, data, Trainer(), log, checkpoints, **more), log, checkpoints


def test_every_batch_comes_in_its_turn_and_the_last_step_is_saved():
    run, log, checkpoints = run_loop()
    assert run.state == [0, 16, 32, 48, 64, 80, 0]  # and the next epoch
    assert (run.step, run.position, run.tokens_seen) == (7, 16, 7 * 16)
    assert [row[:2] for row in log.rows] == [(n, 16 * (n % 6)) for n in range(7)]
    assert [row[2] for row in log.rows] == [16 * n for n in range(1, 8)]
    assert checkpoints.saved == [run] and log.flushed == 7


@pytest.mark.parametrize("k", range(1, 7))
def test_k_steps_and_the_rest_are_all_steps(k):
    whole, log, _ = run_loop()
    first, log_first, _ = run_loop(steps=k)
    second, log_second, _ = run_loop(run=first)
    assert second == whole and log_first.rows + log_second.rows == log.rows
    assert run_loop(run=whole)[0] == whole  # which is done


def test_a_measurement_that_is_refused_ends_the_run_when_it_is_saved():
    class Gate(Validator):
        def refusal(self, numbers):
            return "too far" * (numbers["loss"] == 0)  # after step 6

    log, checkpoints = Log(), Checkpoints()
    with pytest.raises(GateError, match="too far"):
        run_loop(log=log, checkpoints=checkpoints, validator=Gate())
    assert [saved.step for saved in checkpoints.saved] == [6] and log.flushed == 6
    unvalidated = dataclasses.replace(checkpoints.saved[0], unvalidated=True)  # a signal came before it was measured
    with pytest.raises(GateError, match="too far"):
        run_loop(unvalidated, log=log, validator=Gate())


def test_it_saves_when_it_is_due_and_reads_the_metrics_before():
    _, log, checkpoints = run_loop(checkpoints=Checkpoints(every=3))
    assert [saved.step for saved in checkpoints.saved] == [3, 6, 7]
    assert [saved.position for saved in checkpoints.saved] == [48, 0, 16] and log.flushed == 7


def test_a_state_that_is_not_finite_is_not_saved():
    checkpoints = Checkpoints(every=3)
    with pytest.raises(NumericsError):
        run_loop(log=Log(bad=4), checkpoints=checkpoints)
    assert [saved.step for saved in checkpoints.saved] == [3]


class BadData:
    """Its batches after the first `good` are errors; it sees the model that it is asked for."""

    B, T = DATA.B, DATA.T

    def __init__(self, good):
        self.good, self.models = good, []

    def batch(self, position, model=None):
        self.models.append(list(model))
        if len(self.models) > self.good:
            raise DataError("prompt 5: the reward is no number")
        return DATA.batch(position)


@pytest.mark.parametrize("every, saved", [(0, [4]), (3, [3, 4]), (4, [4])])
def test_an_error_of_the_data_ends_the_run_when_the_steps_before_are_saved(every, saved):
    data, log, checkpoints = BadData(4), Log(), Checkpoints(every)
    with pytest.raises(DataError, match="prompt 5"):
        run_loop(log=log, checkpoints=checkpoints, data=data)
    assert [run.step for run in checkpoints.saved] == saved and len(log.rows) == log.flushed == 4
    assert data.models == [[0, 16, 32, 48][:n] for n in range(5)]
    resumed, again, checkpoints = checkpoints.saved[-1], BadData(0), Checkpoints()
    with pytest.raises(DataError, match="prompt 5"):
        run_loop(resumed, data=again, checkpoints=checkpoints)
    assert not checkpoints.saved  # nothing is new
    assert run_loop(resumed, data=BadData(9))[0] == run_loop()[0]


def test_an_error_of_the_validation_ends_the_run_when_its_step_is_saved():
    class Broken(Validator):
        def __call__(self, model, step):
            raise DataError("prompt 5: the reward is no number")

    log, checkpoints = Log(), Checkpoints()
    with pytest.raises(DataError, match="prompt 5"):
        run_loop(log=log, checkpoints=checkpoints, validator=Broken())
    (saved,) = checkpoints.saved
    assert (saved.step, saved.unvalidated, log.flushed) == (3, True, 3)
    with pytest.raises(DataError, match="prompt 5"):
        run_loop(saved, validator=Broken(), checkpoints=checkpoints)
    assert len(checkpoints.saved) == 1  # nothing is new
    assert run_loop(saved, validator=Validator())[0] == run_loop(validator=Validator())[0]


def test_an_error_of_the_data_after_a_bad_step_saves_nothing():
    checkpoints = Checkpoints()
    with pytest.raises(NumericsError):
        run_loop(log=Log(bad=2), checkpoints=checkpoints, data=BadData(3))
    assert not checkpoints.saved


def test_a_request_to_stop_is_asked_for_once_a_step_and_saves():
    asked = []

    def stop_requested():
        asked.append(None)
        return len(asked) == 4

    run, _, checkpoints = run_loop(stop_requested=stop_requested)
    assert run.step == len(asked) == 4 and checkpoints.saved == [run]


def test_validation_is_measured_when_it_is_due_after_the_step_and_its_best_is_kept():
    run, log, _ = run_loop(validator=Validator())
    assert [row[0] for row in log.rows if row[4]] == [2, 5] and log.paused == 2
    assert [row[4] for row in log.rows if row[4]] == [{"loss": 3.0}, {"loss": 0.0}]
    assert run.best == Best(6, 0.0, "data")


def test_a_validation_that_was_not_ended_is_measured_before_the_next_step():
    first, second = (Run(State(range(3)), 3, unvalidated=unvalidated) for unvalidated in (False, True))
    for run, amended in ((first, []), (second, [{"loss": 3.0}])):
        run, log, _ = run_loop(run, steps=5, validator=Validator())
        assert (run.step, run.unvalidated, log.amended) == (5, False, amended)
    assert run.best == Best(3, 3.0, "data")


def test_observers_see_the_run_before_and_after_each_step():
    seen = []

    class Observer:
        def before_step(self, run):
            seen.append(("before", run.step, run.position))

        def after_step(self, run, metrics):
            seen.append(("after", run.step, metrics["loss"]))

    run_loop(steps=2, observers=[Observer()])
    assert seen == [("before", 0, 0), ("after", 1, 1), ("before", 1, 16), ("after", 2, 2)]
