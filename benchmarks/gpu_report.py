"""The numbers of benchmarks/gpu.py, from what its parts leave, and the table that shows them."""

import gzip
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgpt.console import escape
from jaxgpt.runs.rows import read_rows

Numbers = dict[str, Any]
Row = tuple[str, str, str]  # what, measured, beside it
FOLLOWED = re.compile(r"^ *\d+ \| +(\S+) \| +(\S+) \| +(\S+) \|", re.MULTILINE)  # a row of follow_pytorch.py
DOCTORED = ("device", "driver", "packages", "attention", "memory")  # of its findings; others name folders


# ---- From files to numbers


def read_json(output: str) -> Numbers:
    return json.loads(output.splitlines()[-1])


def read_doctor(path: Path) -> Numbers:
    findings = [each for each in json.loads(path.read_text()) if each["part"] in DOCTORED]
    return {"findings": sorted(findings, key=lambda each: DOCTORED.index(each["part"]))}


def read_log(run: Path) -> Numbers:
    rows = list(read_rows(run / "log.jsonl").values())
    return {
        "losses": [row["loss"] for row in rows],
        "median_ms": statistics.median(row["step_ms"] for row in rows[1:] or rows),  # the first compiles
    }


def compare_runs(a: Path, b: Path) -> Numbers:
    """The first step at which two runs differ in loss, gradient norm or the fingerprint of the state; None: in none."""
    one, other = (read_rows(run / "log.jsonl") for run in (a, b))
    names = ("loss", "grad_norm", "state")
    steps = sorted(one.keys() | other.keys())
    different = (s for s in steps if [one.get(s, {}).get(n) for n in names] != [other.get(s, {}).get(n) for n in names])
    return {"steps": len(steps), "first_difference": next(different, None), "state": one[steps[-1]]["state"]}


def read_follow(output: str) -> Numbers:
    """The losses that follow_pytorch.py printed, and how far they are apart."""
    rows = [[float(cell) for cell in row] for row in FOLLOWED.findall(output)]
    ours, theirs, apart = (list(column) for column in zip(*rows, strict=True))
    return {"losses": ours, "pytorch": theirs, "largest_difference": max(map(abs, apart))}


def read_trace(run: Path, steps: int) -> Numbers:
    """What ran in a trace of so many steps: kernels of a step, how long one was running, and the longest of them."""
    path = max((run / "profile" / "plugins" / "profile").rglob("*.trace.json.gz"))
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    named = [e for e in events if e.get("ph") == "M" and "name" in e.get("args", {})]
    names = {(e["name"], e["pid"], e.get("tid")): e["args"]["name"] for e in named}
    gpus = {pid for (kind, pid, _), name in names.items() if kind == "process_name" and "GPU" in name}

    def is_kernel(event: dict[str, Any]) -> bool:
        if gpus:  # a stream is a thread of it, and so are sums of streams by module or by step
            return event["pid"] in gpus and "Stream" in names.get(("thread_name", event["pid"], event["tid"]), "")
        return "hlo_op" in event.get("args", {})

    kernels = [e for e in events if e.get("ph") == "X" and is_kernel(e)]
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in kernels)
    by_name = Counter()
    for event in kernels:
        by_name[event["name"]] += event["dur"] / 1e3 / steps
    return {
        "kernels": len(kernels) / steps,
        "busy_ms": covered(spans) / 1e3 / steps,
        "span_ms": (max(end for _, end in spans) - spans[0][0]) / 1e3 / steps,
        "longest_ms": dict(by_name.most_common(5)),
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of what sorted intervals cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


# ---- From numbers to rows


def make_table(report: Numbers) -> str:
    """The report as a Markdown table."""
    version = f"jaxgpt {report['jaxgpt']}" + f", commit {report['commit']}" * bool(report["commit"])
    rows = [
        (report["date"], f"`{report['command']}`", version, ""),
        ("host", report["host"], f"Python {report['python']}", ""),
    ]
    if report["stand_in"]:
        rows.insert(0, ("**no GPU**", "**a CPU took its place: these are no numbers of a GPU**", "", ""))
    if report["nvidia_smi"]:
        rows.append(("nvidia-smi", report["nvidia_smi"], "before the first part", ""))
    for part in report["parts"]:
        seconds = f"{part['seconds']:.0f}"
        if part["reason"]:
            rows.append((part["part"], "not measured", part["reason"], seconds))
            continue
        for i, row in enumerate(ROWS[part["part"].split()[0]](part["part"], part["numbers"], report["stand_in"])):
            rows.append((*row, seconds if i == 0 else ""))
    cells = [[escape(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "| | measured | beside it | s |\n|---|---|---|---|\n" + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def machine_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    for each in numbers["findings"]:
        yield each["part"], each["text"], each["verdict"]


def main_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    losses, ms = numbers["losses"], f"{numbers['median_ms']:.2f} ms a step, its row included"
    last = losses[-10:]
    text = (
        f"loss {losses[0]:.4f} at first, {statistics.mean(last):.4f} over the last {len(last)} of {len(losses)} steps"
    )
    yield f"main job, {numbers['shape']}", text, ms


def step_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    ms, program = numbers["ms"], numbers["program"]
    times = f"{numbers['tokens_per_s']:,.0f} tokens/s, {ms:,.2f} ms a step (lowest {numbers['lowest_ms']:,.2f})"
    floors = [f"MFU {numbers['mfu']:.1%}" if numbers["mfu"] else "no MFU: the peak of this device is not known"]
    named = {"operations": numbers["flop_floor_ms"], "bandwidth": numbers["bandwidth_floor_ms"]}
    named |= {"program": program.get("floor_ms")}
    floors += [f"{kind} floor {floor:,.2f} ms, {floor / ms:.1%} of the step" for kind, floor in named.items() if floor]
    if "error" in program:
        floors.append(f"the program was not understood: {program['error']}")
    else:
        size = f"{program['bytes'] / 1e9:.2f} GB, {program['flops'] / 1e12:.3f} TFLOP"
        floors.append(f"{program['kernels']:,} kernels, {size}")
    yield name, times, "; ".join(floors)
    peak, planned = numbers["peak_bytes"], numbers["planned_bytes"]
    beside = f"`jaxgpt fit` says {planned / 1e9:.2f} GB: {peak / planned:.2f} times"
    where = "of the process, " if stand_in else ""
    yield name.replace("step", "memory"), f"{where}{peak / 1e9:.2f} GB at most", beside


def checks_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    for each in numbers["checks"]:
        verdict = "ok" if each["value"] <= each["at_most"] else "**wrong**"  # NaN is wrong, too
        yield each["what"], f"{each['value']:.2g}", f"{verdict}: at most {each['at_most']:g}"


def same_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    how = {
        "repeat": "two processes, whose programs were compiled apart",
        "resume": "one process, and two of half of the steps each",
    }[name]
    if numbers["first_difference"] is None:
        text = f"equal bits after each of {numbers['steps']} steps, the state {numbers['state']}"
    else:
        text = f"**different** from step {numbers['first_difference']} of {numbers['steps']} on"
    yield f"{name}, {numbers['shape']}, --deterministic", text, how


def pytorch_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    ours, theirs = numbers["losses"], numbers["pytorch"]
    last = f"after {len(ours) - 1} steps jaxgpt {ours[-1]:.5f}, PyTorch {theirs[-1]:.5f}"
    yield "losses beside PyTorch's, float32", f"at most {numbers['largest_difference']:.1e} apart", last


def decode_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    for each in numbers["rows"]:
        what = f"decode {each['B']} x {numbers['new']} tokens, {numbers['dtype']}"
        yield what, f"{each['tokens_per_s']:,.0f} tokens/s", f"first call {each['first_call_s']:.1f} s"


def profile_rows(name: str, numbers: Numbers, stand_in: bool) -> Iterator[Row]:
    busy = numbers["busy_ms"] / numbers["span_ms"]
    text = f"{numbers['kernels']:,.0f} kernels a step, one of them running {busy:.1%} of the time"
    longest = ", ".join(f"{kernel[:40]} {ms:.2f} ms" for kernel, ms in list(numbers["longest_ms"].items())[:3])
    yield f"profile, {numbers['shape']}", text, longest


ROWS = {
    "machine": machine_rows,
    "main": main_rows,
    "step": step_rows,
    "checks": checks_rows,
    "repeat": same_rows,
    "resume": same_rows,
    "pytorch": pytorch_rows,
    "decode": decode_rows,
    "profile": profile_rows,
}
