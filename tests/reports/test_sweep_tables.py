import math
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.reports.history import History
from jaxgpt.reports.logged_run import LoggedRun
from jaxgpt.reports.scaling import ScalingLaw
from jaxgpt.reports.sweep_tables import (
    Result,
    choose_learning_rates,
    describe_law,
    fit_scaling_law,
    read_result,
    render,
    summarize,
)


def results(losses, row="small", **more):
    """A result for each loss, by learning rate and seed."""
    return [
        Result(row, {"lr": lr, "seed": seed, **more}, 100, 640, {"loss": loss, "tokens_per_s": 1e4 + seed})
        for lr, each in losses.items()
        for seed, loss in enumerate(each)
    ]


def test_a_result_is_of_the_last_row():
    columns = {
        "tokens_seen": np.array([32.0, 64.0, 96.0]),
        "tokens_per_s": np.array([1.0, 50.0, 30.0]),
        "val_loss": np.array([math.nan, 5.0, 4.0]),
        "val_bits_per_byte": np.array([math.nan, 3.0, 2.0]),
        "val_accuracy": np.array([math.nan, 1.0, math.nan]),
    }
    run = LoggedRun(
        Path("x"), "x", {"starts": [{"step_bytes": 1}, {"step_bytes": 7_000_000}]}, History(np.arange(3), columns)
    )
    result = read_result("small", {"lr": 1}, 10, run)
    assert result.numbers == {"loss": 4.0, "bits_per_byte": 2.0, "tokens_per_s": 30.0, "step_mb": 7.0}
    assert (result.tokens, result.parameters) == (96, 10)


def test_means_and_their_errors_are_over_seeds():
    (line,) = summarize(results({1e-3: [4.0, 5.0, 6.0]}))
    assert (line["loss"], line["loss_stderr"], line["seeds"]) == (5.0, pytest.approx(1 / math.sqrt(3)), 3)
    (alone,) = summarize(results({1e-3: [4.0]}))
    assert math.isnan(alone["loss_stderr"])
    assert "| 4.0000 |" in render([alone]) and "| 5.0000 ± 0.5774 |" in render([line])
    assert "| 10,001.0 |" in render([line])


def test_the_best_learning_rate_is_chosen_for_each_row_and_each_other_value():
    inside = results({1e-3: [4.0, 4.2], 3e-3: [3.0, 3.4], 1e-2: [math.nan, 9.0]})
    below = results({1e-3: [3.0], 3e-3: [4.0], 1e-2: [5.0]}, row="large")
    above = results({1e-3: [3.0], 3e-3: [2.0], 1e-2: [1.0]}, B=8)
    best = choose_learning_rates(summarize([*inside, *below, *above]), [1e-3, 3e-3, 1e-2])
    assert [(line["row"], line.get("B"), line["lr"], line["at the edge"]) for line in best] == [
        ("small", None, 3e-3, ""),
        ("large", None, 1e-3, "lowest"),
        ("small", 8, 1e-2, "highest"),
    ]
    assert best[0]["loss"] == pytest.approx(3.2)


def test_a_law_is_of_the_best_runs():
    law = ScalingLaw(2.0, 300.0, 400.0, 0.35, 0.3)
    sizes = [(n, d) for n in (10**6, 10**7, 10**8) for d in (10**7, 10**8, 10**9)]
    lines = [
        {"parameters": n, "tokens": d, "loss": float(law.loss(n, d)) + worse} for n, d in sizes for worse in (0, 0.5)
    ]
    found = fit_scaling_law(lines, [(1e9, 2e10)])
    assert found["points"] == 9
    assert found["forecasts"][0]["loss"] == pytest.approx(law.loss(1e9, 2e10), abs=1e-3)
    assert describe_law(found)[-1].startswith("1e+09 parameters on 2e+10 tokens: 2.5")
