"""The average against what the leaderboards have printed; test_glue.py has the table of a whole command."""

import json

import pytest

from jaxgpt.commands.glue import report
from jaxgpt.data.benchmarks.tasks import read_tasks

# BERT-large's rows, in percent: of GLUE's leaderboard, and of table 2 of Wang et al. (2019), "SuperGLUE".
PRINTED = {
    "glue": (
        {"CoLA": [60.5], "SST-2": [94.9], "MRPC": [85.4, 89.3], "STS-B": [87.6, 86.5], "QQP": [89.3, 72.1]}
        | {"MNLI-m": [86.7], "MNLI-mm": [85.9], "QNLI": [92.7], "RTE": [70.1], "WNLI": [65.1]},
        80.5,
    ),
    "superglue": (
        {"BoolQ": [77.4], "CB": [83.6, 75.7], "COPA": [70.6], "MultiRC": [70.0, 24.1], "ReCoRD": [72.0, 71.3]}
        | {"RTE": [71.7], "WiC": [69.6], "WSC": [64.4], "AX-b": [23.0], "AX-g": [97.8]},
        69.0,
    ),
}


@pytest.mark.parametrize("benchmark", PRINTED)
def test_the_average_is_the_leaderboards(benchmark):
    rows, expected = PRINTED[benchmark]
    measured = []
    for task in (task for task in read_tasks() if task.benchmark == benchmark):
        sets = (each for each in task.sets if each.name in rows)
        values = {each.name: zip(each.metrics, rows[each.name], strict=True) for each in sets}
        measured.append((task, {name: {0: {m: x / 100 for m, x in pairs}} for name, pairs in values.items()}))
    found = report.average(benchmark, measured)
    assert found["mean"] == pytest.approx(expected, abs=0.05)
    assert found["tasks"] == found["tasks_of_benchmark"] == len(measured)


def test_only_seeds_that_all_tasks_have_are_averaged(tmp_path, capsys):
    rte, wnli = (task for task in read_tasks() if task.benchmark == "glue" and task.name in ("RTE", "WNLI"))
    measured = [(rte, {"RTE": {0: {"accuracy": 0.5}, 1: {"accuracy": 0.7}}}), (wnli, {"WNLI": {1: {"accuracy": 0.6}}})]
    report.write_tables(tmp_path, measured)
    table = capsys.readouterr().out
    assert "| RTE | RTE | accuracy | 60.0 ± 10.0 | 2 |" in table and "| WNLI | WNLI | accuracy | 60.0 | 1 |" in table
    assert "average   glue, 2 tasks of 9: 65.0\n" in table
    (average,) = json.loads((tmp_path / "results.json").read_text())["averages"]
    assert average["values"] == {"1": pytest.approx(65)} and average["stderr"] is None
    report.write_tables(tmp_path, [measured[0], (wnli, {"WNLI": {2: {"accuracy": 0.6}}})])
    assert "glue, 2 tasks of 9: no seed has all tasks\n" in capsys.readouterr().out
