import dataclasses
import math

import numpy as np
import pytest

from jaxgpt.data.text import Text
from jaxgpt.runs.progress import Best, Run
from jaxgpt.training.validation import Validator, format_metrics, summarize


def parts(losses):
    """The metrics of two batches."""
    halves = losses[:3], losses[3:]
    return [{"loss": (p.sum(), len(p)), "loss_squared": ((p**2).sum(), len(p))} for p in halves]


def test_numbers_are_those_of_the_single_losses():
    losses = np.array([1.0, 2.5, 0.5, 4.0, 3.0])
    numbers = summarize(parts(losses), num_bytes=13)
    assert numbers == {
        "loss": losses.mean(),
        "loss_stderr": np.std(losses, ddof=1) / math.sqrt(5),
        "perplexity": math.exp(losses.mean()),
        "bits_per_byte": losses.sum() / math.log(2) / 13,
        "tokens": 5,
        "bytes": 13,
    }
    assert format_metrics(numbers) == "loss 2.2000 ± 0.6442, perplexity 9.03, 1.2207 bits per byte"


def test_numbers_of_labels():
    losses = np.array([1.0, 2.5, 0.5, 4.0, 3.0])
    numbers = summarize([part | {"accuracy": (2.0, len(losses) - 2.5)} for part in parts(losses)])
    assert (numbers["accuracy"], numbers["n"], numbers["loss"]) == (4 / 5, 5, 2.2) and "perplexity" not in numbers
    assert format_metrics(numbers) == "loss 2.2000 ± 0.6442, accuracy 0.8000 of 5"
    lighter = [part | {name: (part[name][0] / 8, part[name][1] / 8) for name in part} for part in parts(losses)]
    weighted = summarize([part | {"accuracy": (2.0, len(losses) - 2.5)} for part in lighter])
    assert weighted == numbers  # the weight of all pairs is no number of pairs


def test_other_metrics_are_means_and_a_loss_without_squares_has_no_error():
    metrics = {"loss": (6.0, 3.0), "loss_2": (8.0, 2.0), "loss_3": (0.0, 0.0), "margin": (1.0, 4.0)}
    numbers = summarize([metrics, metrics], num_bytes=5)
    assert (numbers["loss"], numbers["loss_2"], numbers["margin"]) == (2.0, 4.0, 0.25)
    assert math.isnan(numbers["loss_3"])  # of which there was none
    assert "loss_stderr" not in numbers
    assert format_metrics(numbers).endswith("bits per byte; further ahead 4.0000, nan")


def test_one_loss_has_no_spread_and_a_huge_one_no_perplexity():
    one = np.float32(1)
    numbers = summarize([{"loss": (np.float32(1e4), one), "loss_squared": (np.float32(1e8), one)}], num_bytes=1)
    assert (numbers["loss_stderr"], numbers["perplexity"], numbers["tokens"]) == (0.0, math.inf, 1)


@pytest.fixture
def validator():
    """Of 33 tokens, measured by their mean; a model is a number that is added to it."""
    data = Text("a text", np.arange(33, dtype=np.uint16), "its hash", B=2, T=8)

    def measure(model, batch):
        counted = batch["targets"] >= 0
        return {"loss": ((model + batch["targets"])[counted].sum(), counted.sum())}

    return Validator(data, put=lambda batch: batch, measure=measure, every=3, steps=7)


def test_validation_is_due_by_the_steps_and_after_the_last_one(validator):
    assert [step for step in range(1, 8) if validator.due(step)] == [3, 6, 7]
    assert [step for step in range(1, 8) if dataclasses.replace(validator, every=0).due(step)] == [7]


def test_chosen_answers_may_not_lose_more_than_is_allowed(validator):
    strict = dataclasses.replace(validator, max_drop=0.5)
    for drop, refused in ((0.5, False), (0.6, True), (-1.0, False)):
        assert bool(strict.refusal({"chosen_drop": drop})) == refused
        assert not validator.refusal({"chosen_drop": drop})
    assert "have lost 0.6 nats of log-probability, and --max-drop allows 0.5" in strict.refusal({"chosen_drop": 0.6})
    assert not strict.refusal({})  # a signal ended the measurement
    for numbers, again in (({"loss": 1.0, "chosen_drop": 0.6}, True), ({"loss": 1.0, "chosen_drop": 0.5}, False)):
        assert strict.update(Run(None, 6), numbers).unvalidated == again  # by the next start


def test_bias_is_measured_at_times_of_its_own(validator):
    class Monitor:
        def due(self, step):
            return step % 2 == 0

        def __call__(self, model):
            return {"bias_gap": model} if model else {}  # a signal came

        def refusal(self, numbers):
            return "too far" * (numbers.get("bias_gap", 0) > 5)

    both = dataclasses.replace(validator, monitor=Monitor())
    alone = dataclasses.replace(both, data=None)
    assert [step for step in range(1, 8) if both.due(step)] == [2, 3, 4, 6, 7]
    assert [step for step in range(1, 8) if both.data_due(step)] == [3, 6, 7]
    assert [step for step in range(1, 8) if alone.due(step)] == [2, 4, 6]
    assert both(4, 2) == alone(4, 2) == {"bias_gap": 4} and both(4, 3) == validator(4, 3)
    assert both(4, 6) == validator(4, 6) | {"bias_gap": 4} and both(0, 6) == {}
    assert both(4, 5) == both(4, 6) and alone(4, 5) == alone(4, 6)  # not due: flags have changed since a signal came
    assert both.refusal({"bias_gap": 6}) == "too far" and not both.refusal({"loss": 1.0})
    best = Best(3, 2.0, "its hash in windows of 8")
    run = both.update(Run(None, 6, best=best), {"bias_gap": 4})
    assert (run.best, run.unvalidated) == (best, False)
    assert alone.update(Run(None, 6), {"bias_gap": 6}).unvalidated and alone.update(Run(None, 6), {}).unvalidated


def test_all_of_the_data_is_measured_in_the_rows_of_this_process(validator):
    assert validator(10, 7)["loss"] == 10 + np.arange(1, 33).mean() and validator(10, 7)["tokens"] == 32
    half = dataclasses.replace(validator, data=dataclasses.replace(validator.data, rows=slice(1, 2)))
    assert half(0, 3)["tokens"] == 16
    assert dataclasses.replace(validator, interrupted=lambda: True)(0, 3) == {}


def test_the_best_is_the_lowest_on_the_same_data(validator):
    def best_of(best, numbers):
        run = validator.update(Run(None, 6, best=best), numbers)
        assert run.unvalidated == (not numbers) and (run.step, run.state) == (6, None)
        return run.best

    first = Best(3, 2.0, "its hash in windows of 8")
    assert best_of(None, {"loss": 2.0}) == dataclasses.replace(first, step=6)
    assert [best_of(first, numbers) for numbers in ({"loss": 2.5}, {"loss": 2.0}, {"loss": math.nan}, {})] == [
        first
    ] * 4
    assert best_of(first, {"loss": 1.5}) == Best(6, 1.5, first.of)
    assert best_of(Best(3, 1.0, "other data"), {"loss": 2.5}).step == 6


def test_the_best_may_be_the_highest_score_of_answers(validator):
    class Scorer:
        data = range(5)

        def __call__(self, model):
            return {"f1": model / 10}

    by_f1 = dataclasses.replace(validator, scorer=Scorer(), best_by="f1")
    numbers = by_f1(3, 6)
    assert numbers == validator(3, 6) | {"f1": 0.3} and format_metrics(numbers).endswith("bits per byte, f1 0.3000")
    assert dataclasses.replace(by_f1, scorer=lambda model: {})(3, 6) == {}  # a signal came

    def best_of(best, loss, f1):
        return by_f1.update(Run(None, 6, best=best), {"loss": loss, "f1": f1}).best

    first = Best(3, 2.0, "its hash in windows of 8, 5 answers", "f1", 0.5)
    assert best_of(None, 2.0, 0.5) == dataclasses.replace(first, step=6)
    assert [best_of(first, *pair) for pair in ((2.0, 0.5), (1.0, 0.4), (math.nan, 0.9))] == [first] * 3
    assert best_of(first, 1.0, 0.5).step == 6  # as good a score, and a lower loss
    assert best_of(first, 9.0, 0.6) == Best(6, 9.0, first.of, "f1", 0.6)
    assert best_of(Best(3, 2.0, "its hash in windows of 8"), 9.0, 0.1).by == "f1"  # --best-by was another
    assert str(first) == "a validation f1 of 0.5000, and a validation loss of 2.0000"
    assert str(Best(3, 2.0, "x")) == "a validation loss of 2.0000"


def test_further_texts_have_their_losses_beside_that_of_the_first(validator):
    def measure(model, batch):
        losses, counted = model + batch["targets"], batch["targets"] >= 0
        return {"loss": (losses[counted].sum(), counted.sum()), "loss_squared": ((losses**2)[counted].sum(), 1)}

    old = Text("another", np.array([7, 5, 5, 11, 11], np.uint16), "its hash", B=2, T=8)
    both = dataclasses.replace(validator, measure=measure, also={"old": old, "older": old})
    numbers = both(10, 0)
    assert numbers["old_loss"] == numbers["older_loss"] == 18 and numbers["old_loss_stderr"] == math.sqrt(12 / 4)
    alone = dataclasses.replace(validator, measure=measure)(10, 0)
    assert {name: numbers[name] for name in alone} == alone  # what it was without them
    assert format_metrics(numbers) == f"{format_metrics(alone)}; old 18.0000 ± 1.7321; older 18.0000 ± 1.7321"
    asked = []
    late = dataclasses.replace(both, interrupted=lambda: bool(asked.append(0)) or len(asked) > 3)
    assert late(10, 0) == {}  # a signal came while the second one was measured
