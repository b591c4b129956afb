"""benchmarks/gpu.py with the CPU in the GPU's place, and its arithmetic on numbers of GPUs computed another way."""

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.runtime import device
from jaxgpt.runtime.mesh import single_device
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.setup import step_memory

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # which is no package

import gpu
import gpu_parts
import gpu_report
import training

H100 = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("B, T", [(4, 32), (64, 1024)])
@pytest.mark.parametrize("card, dtype, peak", [(H100, "bfloat16", 989.4e12), ("Tesla T4", "float32", 8.1e12)])
def test_floors_are_the_products_of_gpt2_and_the_bytes_of_adamw(card, dtype, peak, B, T):
    products = [(768, 3 * 768), (768, 768), (768, 4 * 768), (4 * 768, 768)] * 12 + [(768, 50257)]
    flops = 2 * B * T * sum(a * b for a, b in products)
    flops += 2 * 2 * B * 12 * T * T * 768  # queries by keys, and weights by values, of all heads
    state = np.zeros(6 * 124_439_808, np.float32).nbytes  # parameters and moments, read and written
    weights = 2 * 124_439_808 * (2 if dtype == "bfloat16" else 4)
    operations, traffic = training.find_floors(card, B, T, dtype)
    assert operations == pytest.approx(3 * flops / peak, rel=2e-3)  # which counts biases and LayerNorms, too
    assert traffic == pytest.approx((state + weights) / training.PEAKS[card][2])


def test_a_program_has_the_operations_of_its_model(h100_step):
    """As the HLO text for an H100 has them, beside the formula."""
    counted = gpu_parts.count_program(h100_step(TrainConfig.of(B=4, T=32, n_layer=2)).as_text(), H100, "bfloat16")
    parameters = 2 * (12 * 768**2 + 13 * 768) + (50257 + 1024 + 2) * 768
    operations, _ = training.find_floors(H100, 4, 32, "bfloat16", parameters, n_layer=2, n_embd=768)
    assert counted["flops"] == pytest.approx(operations * 989.4e12, rel=0.01)
    least = counted["flops"] / 989.4e12, counted["bytes"] / 3.35e12
    assert max(least) <= 1e-3 * counted["floor_ms"] <= sum(least)
    assert gpu_parts.count_program("not a program", H100, "bfloat16").keys() == {"error"}


def test_a_step_is_measured_beside_the_promise_of_fit(monkeypatch):
    found = gpu_parts.time_step("tiny", 2, 16, "float32", seconds=60)
    config = gpu_parts.new_config("tiny", B=2, T=16, dtype="float32")
    assert found["planned_bytes"] == pytest.approx(step_memory(config, single_device()).total, rel=1e-3)
    assert found["turns"] == gpu_parts.TURNS and found["lowest_ms"] <= found["ms"]
    assert found["tokens_per_s"] == pytest.approx(2 * 16 / (found["ms"] / 1e3))
    assert found["mfu"] == 0 and found["peak_bytes"] > found["planned_bytes"]
    monkeypatch.setattr(device, "free_memory", lambda: 1e6)
    with pytest.raises(RetryableError, match=r"out of memory: 0.0\d GB are needed, and 0.00 GB are free; name a small"):
        gpu_parts.time_step("tiny", 2, 16, "float32", seconds=60)


@pytest.mark.parametrize("card", [H100, "no such card"])
def test_the_rows_of_a_step(card):
    operations, traffic = training.find_floors(card, 64, 1024, "bfloat16")
    s, plan, peak = 0.1, 24_000_000_000, 25_200_000_000
    program = {"kernels": 592, "bytes": 202.2e9, "flops": 52.9e12, "floor_ms": 83.7 if operations else 0}
    numbers = {"ms": 1e3 * s, "lowest_ms": 99, "tokens_per_s": 64 * 1024 / s, "mfu": operations / s, "program": program}
    numbers |= {"flop_floor_ms": 1e3 * operations, "bandwidth_floor_ms": 1e3 * traffic}
    numbers |= {"planned_bytes": plan, "peak_bytes": peak}
    step, memory = gpu_report.step_rows("step 64x1024 bfloat16", numbers, stand_in=False)
    assert step[1] == "655,360 tokens/s, 100.00 ms a step (lowest 99.00)"
    if operations:  # nanoGPT's estimate_mfu gives 56.04 TFLOP a step
        assert step[2].startswith(
            "MFU 56.6%; operations floor 56.64 ms, 56.6% of the step; bandwidth floor 1.04 ms, 1.0%"
        )
        assert "program floor 83.70 ms, 83.7% of the step; 592 kernels, 202.20 GB, 52.900 TFLOP" in step[2]
    else:
        assert step[2] == "no MFU: the peak of this device is not known; 592 kernels, 202.20 GB, 52.900 TFLOP"
    assert memory == ("memory 64x1024 bfloat16", "25.20 GB at most", "`jaxgpt fit` says 24.00 GB: 1.05 times")


def test_the_time_that_spans_cover():
    rng = np.random.default_rng(0)
    for _ in range(20):
        spans = sorted((int(a), int(a + n)) for a, n in rng.integers(0, 30, (12, 2)))
        seconds = np.zeros(60, bool)
        for start, end in spans:
            seconds[start:end] = True
        assert gpu_report.covered(spans) == seconds.sum()


def test_a_trace_of_a_gpu(tmp_path):
    """Two streams that overlap; what JAX sums up beside them, and what the host did, are no kernels."""
    named = [("process_name", 1, 0, "/device:GPU:0"), ("process_name", 2, 0, "/host:CPU")]
    named += [("thread_name", 1, 5, "Stream #5(Compute)"), ("thread_name", 1, 6, "Stream #6(Memcpy)")]
    named += [("thread_name", 1, 7, "XLA Ops"), ("thread_name", 2, 8, "python")]
    events = [{"ph": "M", "name": n, "pid": p, "tid": t, "args": {"name": name}} for n, p, t, name in named]
    spans = [("gemm", 1, 5, 0, 3000), ("gemm", 1, 5, 4000, 3000), ("copy", 1, 6, 2000, 1500), ("x", 1, 7, 0, 9000)]
    spans += [("run", 2, 8, 0, 20000)]
    events += [{"ph": "X", "name": n, "pid": p, "tid": t, "ts": ts, "dur": dur} for n, p, t, ts, dur in spans]
    folder = tmp_path / "profile" / "plugins" / "profile" / "2026"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": [*events, {}]}, file)
    found = gpu_report.read_trace(tmp_path, steps=2)
    longest = {"gemm": 3.0, "copy": 0.75}
    assert found == {"kernels": 1.5, "busy_ms": 3.25, "span_ms": 3.5, "longest_ms": longest}


def write_log(run, rows):
    run.mkdir()
    facts = {"position": 0, "tokens_seen": 0, "grad_norm": 1.0}
    rows = [{"step": i, "step_ms": 10.0 * i, "loss": loss, "state": state} for i, (loss, state) in enumerate(rows)]
    (run / "log.jsonl").write_text("".join(json.dumps(facts | row) + "\n" for row in rows))
    return run


def test_runs_are_compared_step_by_step(tmp_path):
    rows = [(3.0, "aa"), (2.0, "bb"), (1.0, "cc")]
    a, b = write_log(tmp_path / "a", rows), write_log(tmp_path / "b", rows)
    c, short = write_log(tmp_path / "c", [*rows[:2], (1.0, "cd")]), write_log(tmp_path / "short", rows[:2])
    assert gpu_report.compare_runs(a, b) == {"steps": 3, "first_difference": None, "state": "cc"}
    assert (
        gpu_report.compare_runs(a, c)["first_difference"] == gpu_report.compare_runs(a, short)["first_difference"] == 2
    )
    assert gpu_report.read_log(a) == {"losses": [3.0, 2.0, 1.0], "median_ms": 15.0}
    for name, how in (("repeat", "two processes"), ("resume", "one process, and two of half")):
        ((_, text, beside),) = gpu_report.same_rows(name, {"shape": "4x8"} | gpu_report.compare_runs(a, c), False)
        assert text == "**different** from step 2 of 3 on" and beside.startswith(how)


def test_the_losses_beside_pytorchs():
    printed = " step | loss: jaxgpt |  pytorch | difference | grad norm: jaxgpt |  pytorch\n"
    printed += "    0 |     11.01882 | 11.01882 |    0.0e+00 |           44.8622 |  44.8600\n"
    printed += "    1 |      9.81014 |  9.81016 |   -2.0e-05 |            9.4435 |   9.4420\n"
    found = gpu_report.read_follow(printed + "largest difference of the losses: 2.0e-05\n")
    assert found["losses"] == [11.01882, 9.81014] and found["pytorch"] == [11.01882, 9.81016]
    assert found["largest_difference"] == pytest.approx(max(np.abs(np.subtract(found["losses"], found["pytorch"]))))


def python(code):
    return ["-c", code], {}


@pytest.fixture
def run_fake_parts(tmp_path, monkeypatch, capsys):
    """run(parts, minutes): the exit code and the report of these parts, with the handlers of signals as they were."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's & may have left out

    def run(parts, minutes):
        monkeypatch.setattr(gpu, "make_parts", lambda flags: parts)
        code = gpu.main(["--device", "cpu", "--out", str(tmp_path / "out"), "--minutes", str(minutes)])
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        table = (tmp_path / "out" / "report.md").read_text()
        assert table == gpu_report.make_table(report) and table in capsys.readouterr().out
        return code, report, table

    yield run
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_each_part_ends_in_time_and_says_what_went_wrong(run_fake_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "LEAST_S", 0.2)
    sleep = "import time; time.sleep(60)"
    forever = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {sleep!r}]); "
    forever += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()"
    crash = "import sys; print('a line\\nerror: no | disk', file=sys.stderr); sys.exit(4)"
    decoded = {
        "platform": "cpu",
        "dtype": "float32",
        "new": 8,
        "rows": [{"B": 1, "tokens_per_s": 9.5, "first_call_s": 1}],
    }
    parts = [
        gpu.Part("decode", 0.5, [python(f"print('warming'); print({json.dumps(decoded)!r})")], gpu_report.read_json),
        gpu.Part("checks", 0.4, [python(forever)], gpu_report.read_json),
        gpu.Part("main", 0.5, [python(crash), python("1 / 0")], gpu_report.read_json),
        gpu.Part("repeat", 0.5, [python("import os; os.abort()")], gpu_report.read_json),
        gpu.Part("resume", 0.5, [python("print('{')")], gpu_report.read_json),
        gpu.Part("pytorch", 0.5, [python(sleep)], gpu_report.read_json, missing=lambda: "torch not installed"),
        gpu.Part("profile", 1, [python(sleep)], gpu_report.read_json),
        gpu.Part("step 4x32 bfloat16", 1, [python(sleep)], gpu_report.read_json),
    ]
    start = time.monotonic()
    code, report, table = run_fake_parts(parts, 3 / 60)
    assert code == 1 and time.monotonic() - start < 6
    reasons = {part["part"]: part["reason"] for part in report["parts"]}
    assert reasons.pop("resume").startswith("its output can't be read: JSONDecodeError: ")
    assert reasons.pop("profile").startswith("out of time: ended after ")
    assert reasons == {
        "decode": "",
        "checks": "out of time: ended after 1 s",
        "main": "exit code 4: no | disk",
        "repeat": "killed by signal 6: it said nothing",
        "pytorch": "torch not installed",
        "step 4x32 bfloat16": "only 0 s of 0.05 minutes were left for it",
    }
    assert "| decode 1 x 8 tokens, float32 | 10 tokens/s | first call 1.0 s |" in table
    assert "| main | not measured | exit code 4: no \\| disk | 0 |" in table
    child = Path("/proc", (tmp_path / "pid").read_text())
    assert not child.exists() or "\nState:\tZ" in (child / "status").read_text()  # dead, if nobody has asked for it


def test_ctrl_c_leaves_what_there_is(run_fake_parts):
    press = python("import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)")
    checked = {"checks": [{"what": "a sum", "value": float("nan"), "at_most": 1}]}
    parts = [
        gpu.Part("checks", 1, [python(f"print({json.dumps(checked)!r})")], gpu_report.read_json),
        gpu.Part("main", 1, [press], gpu_report.read_json),
        gpu.Part("decode", 1, [python("print('{}')")], gpu_report.read_json),
    ]
    code, report, table = run_fake_parts(parts, 1)
    assert code == 130 and [part["reason"] for part in report["parts"]] == ["", "stopped", "stopped"]
    assert "| a sum | nan | **wrong**: at most 1 |" in table and "| decode | not measured | stopped |" in table
    assert table.splitlines()[2].startswith("| **no GPU** | **a CPU took its place")


def test_wrong_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "nvidia_gpus", lambda: 0)
    (tmp_path / "file").touch()
    for words, text in (
        (["--out", str(tmp_path)], "there are files in it already"),
        (["--shapes", "4by32"], "--shapes 4by32 is out of range: it must be BxT"),
        (["--minutes", "0"], "--minutes 0"),
        (["--out", str(tmp_path / "new")], "no usable NVIDIA GPU here; see jaxgpt doctor"),
    ):
        with pytest.raises(UsageError, match=text):
            gpu.main(words)
    assert not (tmp_path / "new").exists()


def test_one_gpu_without_a_network(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = gpu.environment("gpu")
    assert (found["CUDA_VISIBLE_DEVICES"], found["JAX_PLATFORMS"], found["HF_HUB_OFFLINE"]) == ("3", "cuda,cpu", "1")


def test_the_page_has_every_part():
    page = (gpu.ROOT / "docs" / "gpu.md").read_text()
    assert [name for name in gpu_report.ROWS if f"\n| `{name}` |" not in page] == []


@pytest.mark.slow
def test_the_command_on_a_cpu(tmp_path):
    """Two of its parts; docs/gpu.md has a table of all."""
    words = ["--device", "cpu", "--size", "tiny", "--shapes", "2x16", "--out", str(tmp_path / "out")]
    parts = ["checks", "profile"]
    command = [sys.executable, gpu.BENCHMARKS / "gpu.py", *words, "--parts", *parts]
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert done.returncode == 0, [part["reason"] for part in report["parts"]]
    assert [part["part"] for part in report["parts"]] == parts
    checks, profile = (part["numbers"] for part in report["parts"])
    assert all(each["value"] <= each["at_most"] for each in checks["checks"]) and len(checks["checks"]) == 8
    assert 0 < profile["busy_ms"] <= profile["span_ms"] and profile["kernels"] > 10
    assert done.stdout.endswith((tmp_path / "out" / "report.md").read_text())
