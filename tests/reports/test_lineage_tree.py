import json
import shutil

from jaxgpt.reports.lineage_tree import MAX_RUNS, describe_gate, format_lineage
from jaxgpt.runs.lineage import write_lineage

GATE = {"name": "loss on old", "before": 1.0, "after": 1.01, "change": 0.01, "stderr": 0.002, "limit": 0.02}


def run_folder(folder, parents=None, **lineage):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if parents is not None:
        parents = [{"run": str(parent), "id": "f00d", "step": 7} for parent in parents]
        data = [{"name": "new.txt", "fingerprint": "a" * 64, "share": 0.95, "role": "new"}]
        content = {"run": "cafe", "step": 9, "created": "then", "parents": parents, "data": data}
        write_lineage(folder, content | {"gates": [GATE | {"passed": True}], "promoted": "then"} | lineage)
    return folder


def test_a_run_stands_above_what_it_comes_from(tmp_path):
    first = run_folder(tmp_path / "first")
    second = run_folder(tmp_path / "second", [first], promoted=False)
    third = run_folder(tmp_path / "third", [second])
    lines = format_lineage(third)
    assert lines == [
        f"{third}",
        "    step 9, promoted then, run cafe",
        "    new   95.00% new.txt (aaaaaaaaaaaa)",
        "    gate  loss on old: 1.0000 -> 1.0100, +0.0100 ± 0.0020, limit 0.0200 + 2 standard errors: passed",
        f"└── {second}, step 7, run f00d",
        "        step 9, not promoted, run cafe",
        *(f"    {line}" for line in lines[2:4]),
        f"    └── {first}, step 7, run f00d",
    ]
    (third / "checkpoints" / "12").mkdir()
    assert "    note: trained on to step 12, which no gate has measured" in format_lineage(third)
    shutil.rmtree(second)
    assert format_lineage(third)[-1] == f"└── {second}, step 7, not there any more, run f00d"


def test_runs_that_come_from_each_other_end(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run_folder(first, [second, second])
    run_folder(second, [first])
    assert len(format_lineage(first)) == 10  # four lines of each, and a line of each that comes again
    run_folder(tmp_path / "many", [tmp_path / str(n) for n in range(2 * MAX_RUNS)])
    for n in range(MAX_RUNS + 5):
        run_folder(tmp_path / f"chain{n}", [tmp_path / f"chain{n + 1}"])
    assert len(format_lineage(tmp_path / "chain0")) == 4 * MAX_RUNS + 1
    assert len(format_lineage(tmp_path / "many")) == 4 + 2 * MAX_RUNS


def test_a_gate_of_nan_is_shown():
    gate = GATE | {"after": None, "change": None, "passed": False}
    assert describe_gate(gate).endswith("1.0000 -> nan, +nan ± 0.0020, limit 0.0200 + 2 standard errors: NOT PASSED")
    assert describe_gate(GATE | {"limit": None, "passed": True}).endswith("+0.0100 ± 0.0020")
    assert ", -0.5000 ±" in describe_gate(json.loads(json.dumps(GATE | {"change": -0.5, "passed": True})))
