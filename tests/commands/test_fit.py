import functools
import math
import subprocess
import sys

import pytest

from jaxgpt.commands import fit
from jaxgpt.errors import UsageError
from jaxgpt.training import setup
from jaxgpt.training.setup import StepMemory


def memory(total):
    return StepMemory(parameters=1000, optimizer=2000, temporary=total - 3000) if total < math.inf else None


@pytest.mark.parametrize(
    "total",
    [
        lambda B: 3000 + 70 * B,
        lambda B: 3000 + 70 * B + (500 if B > 40 else 0),  # a step, as where the loss begins to come in chunks
        lambda B: 3000 + 70 * B - 20 * max(0, B - 60),  # XLA's own rematerialisation
        lambda B: 3000 + 70 * B if B < 90 else math.inf,  # XLA finds no plan
    ],
)
@pytest.mark.parametrize("limit", [3100, 5000, 8000, 20_000])
@pytest.mark.parametrize("start", [1, 4, 64])
def test_the_largest_batch_is_found_within_two_in_a_hundred(total, limit, start):
    asked = []

    def measure(B):
        asked.append(B)
        return memory(total(B))

    known = {B: memory(total(B)) for B in (start, 2 * start)}
    found = fit.find_largest_B(measure, known, limit)
    best = max((B for B in range(1, 5000) if total(B) <= limit), default=0)
    assert best - max(1, best // 50) <= found <= best
    assert len(asked) <= fit.ATTEMPTS


def test_one_sequence_that_does_not_fit_is_none():
    assert fit.find_largest_B(lambda B: memory(10**6), {1: memory(10**6), 2: memory(2 * 10**6)}, 10**5) == 0


def rows_of(table):
    return {line.split("│")[1].strip(): line.split("│")[2:-1] for line in table.splitlines() if "│" in line}


def test_a_private_step_takes_as_much_for_any_batch(h100, monkeypatch, capsys):
    """Its rows come a few at a time: there is no largest B to look for."""

    def measure(config, mesh):
        assert config.privacy.dp_microbatch == 4 and config.data.B == 8
        too_large = 10**12 * (config.model.remat == "dots")
        return StepMemory(parameters=1_000_000_000, optimizer=2_000_000_000, temporary=500_000_000 + too_large)

    monkeypatch.setattr(setup, "step_memory", measure)
    assert fit.main(["--gpu", "h100", "--B", "8", "--dp-epsilon", "8", "--dp-microbatch", "4"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [rows[remat][-1].strip() for remat in ("none", "dots", "full")] == ["any", "none", "any"]


def test_the_table_has_what_each_remat_takes(h100, monkeypatch, capsys):
    per_sequence = {"none": 4_000_000, "dots": 2_000_000, "full": 1_000_000}

    def measure(config, mesh):
        temporary = 500_000_000 + per_sequence[config.model.remat] * config.data.B
        return StepMemory(parameters=1_000_000_000, optimizer=2_000_000_000, temporary=temporary)

    monkeypatch.setattr(setup, "step_memory", measure)
    assert fit.main(["--gpu", "h100", "--B", "1000"]) == 0
    table = capsys.readouterr().out
    assert "B=1000, T=32 on NVIDIA H100 80GB HBM3: GB on a GPU, of 76.4" in table
    cells = {remat: [cell.strip() for cell in row] for remat, row in rows_of(table).items()}
    assert {remat: row[:5] for remat, row in cells.items()} == {
        "none": ["1.00", "2.00", "4.00", "0.50", "7.50"],
        "dots": ["1.00", "2.00", "2.00", "0.50", "5.50"],
        "full": ["1.00", "2.00", "1.00", "0.50", "4.50"],
    }
    for remat, row in cells.items():
        best = (76.4e9 - 3.5e9) / per_sequence[remat]
        assert 0.98 * best <= int(row[5].replace(",", "")) <= 1.01 * best


@pytest.mark.slow
def test_the_table_of_compiled_steps(h100, monkeypatch, capsys):
    monkeypatch.setattr(fit, "ATTEMPTS", 0)
    assert fit.main(["--gpu", "h100", "--size", "tiny", "--n-layer", "1", "--T", "64", "--B", "4096"]) == 0
    table = capsys.readouterr().out
    assert "B=4096, T=64 on NVIDIA H100 80GB HBM3: GB on a GPU, of 76.4" in table
    rows = rows_of(table)
    assert list(rows) == ["none", "dots", "full"]
    totals = []
    for cells in rows.values():
        parameters, optimizer, activations, others, together = (float(cell) for cell in cells[:5])
        assert optimizer == pytest.approx(2 * parameters, abs=0.02)
        assert parameters + optimizer + activations + others == pytest.approx(together, abs=0.03)
        totals.append(together)
        assert cells[5].strip() == "8,192"  # known to fit; no attempt was made
    assert totals == sorted(totals, reverse=True) and totals[0] > totals[-1]


def test_without_a_gpu_it_says_how_to_ask_for_one():
    command = [sys.executable, "-m", "jaxgpt", "fit", "--size", "tiny"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no usable NVIDIA GPU") and done.stderr.count("\n") == 1
    assert "--gpu h100" in done.stderr


def test_weights_are_refused():
    with pytest.raises(UsageError, match="the shape alone; name it by --size"):
        fit.main(["--gpu", "h100", "--init-from", "gpt2-xl"])
    with pytest.raises(UsageError, match="--objective dpo: a pair of answers takes what two sequences of a text"):
        fit.main(["--gpu", "h100", "--objective", "dpo"])
    with pytest.raises(UsageError, match="--objective rloo: its step takes what one on a text does; leave it out"):
        fit.main(["--gpu", "h100", "--objective", "rloo"])


@pytest.mark.slow
def test_how_a_mesh_grows(h100, monkeypatch, capsys):
    monkeypatch.setattr(fit, "ATTEMPTS", 0)
    monkeypatch.setattr(fit, "SIZES", (16,))
    compiled = functools.cache(setup.compile_step)  # --remat none alone: what it changes, the table above asks
    monkeypatch.setattr(setup, "compile_step", lambda c, on: compiled(c.replace(remat="none"), on))
    flags = ["--gpu", "h100", "--size", "tiny", "--n-layer", "1", "--T", "64", "--B", "64", "--mesh", "data=1,fsdp=4"]
    assert fit.main(flags) == 0
    memory, growth = capsys.readouterr().out.split("16 sequences of 64 tokens for each GPU, hosts of 8: at best")
    assert "B=64 of all 4 (16 on each), T=64 on NVIDIA H100 80GB HBM3: GB on a GPU" in memory
    rows = [line.split("│")[1:-1] for line in growth.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[:2] for row in cells] == [
        ["1", "data=1"],
        ["4", "data=1,fsdp=4"],
        ["16", "data=4,fsdp=4"],
    ]
    assert cells[0][2] == "0.00" and cells[0][-1] == "100%"
    sent = [float(row[2]) for row in cells]
    assert sent == sorted(sent) and sent[1] > 0
    for row in cells:
        compute, _, waited, step = (float(cell) for cell in row[3:7])
        assert compute + waited == pytest.approx(step, abs=0.11)


def test_a_mesh_of_gpus_whose_links_nobody_knows():
    with pytest.raises(UsageError, match="--mesh: the links between GPUs are known for --gpu h100 alone"):
        fit.main(["--mesh", "data=4"])
