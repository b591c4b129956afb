"""What jaxgpt does on an NVIDIA GPU, measured by one command in a bounded time: a table to paste, and the same as JSON.

python benchmarks/gpu.py --minutes 8
python benchmarks/gpu.py --device cpu --size tiny --shapes 2x16 4x64 --steps 12 --minutes 4    # the same without a GPU

docs/gpu.md says what each line means. Each part is one or more processes, which are killed when its share of the time
is over; those that would be missed least come last. Report and JSON are written after each part, so that Ctrl-C or a
lost machine leaves what there is. Nothing uses the network. PyTorch, beside which the losses are shown, is optional.
"""

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent.parent))

from gpu_report import ROWS, compare_runs, make_table, read_doctor, read_follow, read_json, read_log, read_trace

import jaxgpt
from jaxgpt import console
from jaxgpt.commands.flags import parse
from jaxgpt.console import plural
from jaxgpt.errors import JaxgptError, UsageError, require
from jaxgpt.files import require_empty, write_whole
from jaxgpt.progress_bar import stage
from jaxgpt.runtime.device import nvidia_gpus

BENCHMARKS = Path(__file__).parent
ROOT = BENCHMARKS.parent
LEAST_S = 3  # in which no part can do anything
COMPARED = 10  # steps of runs whose states are compared
TRACED = 5


@dataclasses.dataclass(frozen=True)
class Flags:
    """Measure what jaxgpt does on this machine's GPU, in a bounded time, and write a table."""

    minutes: float = 8
    """For all parts together. What is not done by then is ended, and the table says so."""
    out: Path = Path("runs/gpu")
    """A new folder: report.md, report.json, and the parts' runs and output."""
    device: Literal["gpu", "cpu"] = "gpu"
    """cpu: the CPU in the GPU's place, to try the command."""
    size: Literal["gpt2", "tiny"] = "gpt2"
    """Of the model."""
    shapes: tuple[str, ...] = ("4x32", "64x1024")
    """Batches, as BxT: the main job's, and the largest."""
    steps: int = 50
    """Of the main job, and beside PyTorch."""
    parts: tuple[Literal[*ROWS], ...] = tuple(ROWS)
    """Only these."""

    def __post_init__(self):
        require(0 < self.minutes <= 24 * 60, "minutes", self.minutes, "above 0, up to 1440")
        require(1 <= self.steps <= 10**6, "steps", self.steps, "from 1 to 1,000,000")
        for shape in self.shapes:
            require(bool(re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", shape)), "shapes", shape, "BxT, such as 4x32")
        require(len(self.shapes) > 0, "shapes", "nothing", "BxT, such as 4x32")


Command = tuple[list[str], dict[str, str]]  # its words, and what it needs in the environment


@dataclasses.dataclass(frozen=True)
class Part:
    """What is measured together.

    Attributes:
      share: of the time, at most.
      commands: one after another; the seconds that a command has take the place of SECONDS in its words.
      read: the numbers, from the last command's output.
      codes: exit codes with which a command has done its work.
      missing: says what it lacks; "" if nothing.
    """

    name: str
    share: float
    commands: list[Command]
    read: Callable[[str], dict[str, Any]]
    codes: tuple[int, ...] = (0,)
    missing: Callable[[], str] = str


def main(argv: list[str]) -> int:
    start, flags = time.monotonic(), parse(Flags, argv)
    flags = dataclasses.replace(flags, out=flags.out.absolute())
    require_empty(flags.out)
    if flags.device == "gpu" and not nvidia_gpus():
        raise UsageError("no usable NVIDIA GPU here; see jaxgpt doctor, or try the command with --device cpu")
    parts = [part for part in make_parts(flags) if part.name.split()[0] in flags.parts]
    flags.out.mkdir(parents=True, exist_ok=True)
    report = describe_machine(flags, argv)
    for signum in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C
        if signal.getsignal(signum) != signal.SIG_IGN:  # under nohup
            signal.signal(signum, signal.default_int_handler)
    try:
        run_parts(parts, flags, report, start + 60 * flags.minutes)
        code = int(any(part["reason"] for part in report["parts"]))
    except KeyboardInterrupt:
        left = parts[len(report["parts"]) :]
        report["parts"] += [{"part": part.name, "seconds": 0, "reason": "stopped", "numbers": {}} for part in left]
        write_report(flags.out, report)
        code = 130
    print(make_table(report), end="")
    print(f"\n{flags.out}: report.md, report.json, and what each part printed in logs", file=sys.stderr)
    return code


def describe_machine(flags: Flags, argv: list[str]) -> dict[str, Any]:
    """The head of the report: when, what and where."""
    smi = "--query-gpu=name,driver_version,memory.total,memory.used,utilization.gpu,power.limit,clocks.max.sm"
    smi = ["nvidia-smi", "-i", environment("gpu")["CUDA_VISIBLE_DEVICES"], smi, "--format=csv,noheader"]
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "command": shlex.join(["python", "benchmarks/gpu.py", *argv]),
        "jaxgpt": jaxgpt.__version__,
        "commit": ask(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]),
        "python": platform.python_version(),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "nvidia_smi": ask(smi) if flags.device == "gpu" else "",
        "stand_in": flags.device == "cpu",
        "parts": [],
    }


def ask(command: list[str]) -> str:
    """The first line that a program prints; "" without it."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.partition("\n")[0].strip()
    return ""


def make_parts(flags: Flags) -> list[Part]:
    """All parts, the most wanted first."""
    runs, (first, last) = flags.out / "runs", (flags.shapes[0], flags.shapes[-1])
    context = f"{first.partition('x')[0]}x{last.partition('x')[2]}"  # few sequences, and long ones: quick, but all code
    torch = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]

    def train(name: str, shape: str, steps: int, *more: str, **variables: str) -> Command:
        B, T = shape.split("x")
        where = ["--device", flags.device, "--size", flags.size, "--out", str(runs / name), "--save-every", "0"]
        return [str(ROOT / "train.py"), "--B", B, "--T", T, "--steps", str(steps), *where, *more], variables

    def measure(*words: str) -> Command:
        return [str(BENCHMARKS / "gpu_parts.py"), *words], {}

    def step(shape: str, dtype: str, share: float) -> Part:
        return Part(
            f"step {shape} {dtype}",
            share,
            [measure("step", flags.size, *shape.split("x"), dtype, "SECONDS")],
            read_json,
        )

    def compared(name: str, steps: int, **variables: str) -> Command:
        return train(name, context, steps, "--deterministic", "--hash-every", "1", **variables)

    doctor = ["-m", "jaxgpt", "doctor", "--out", str(runs), "--json", str(flags.out / "doctor.json")]
    follow = [str(BENCHMARKS / "follow_pytorch.py"), "--steps", str(flags.steps)]
    compiled_anew = {"JAX_COMPILATION_CACHE_DIR": str(runs / "compiled")}
    more_bf16 = [step(shape, "bfloat16", 0.25) for shape in reversed(flags.shapes[:-1])]
    more_f32 = [step(shape, "float32", 0.25) for shape in flags.shapes]
    return [
        Part("machine", 0.15, [(doctor, {})], lambda _: read_doctor(flags.out / "doctor.json"), codes=(0, 1)),
        Part("main", 0.3, [train("main", first, flags.steps)], lambda _: {"shape": first} | read_log(runs / "main")),
        step(last, "bfloat16", 0.35),
        *more_bf16,
        Part("checks", 0.25, [measure("checks")], read_json),
        Part(
            "repeat",
            0.4,
            [compared("a", COMPARED), compared("b", COMPARED, **compiled_anew)],
            lambda _: {"shape": context} | compare_runs(runs / "a", runs / "b"),
        ),
        Part(
            "pytorch",
            0.25,
            [([*follow, "--size", flags.size, "--device", flags.device], {})],
            read_follow,
            missing=lambda: f"{' and '.join(torch)} not installed: pip install torch transformers" if torch else "",
        ),
        Part("decode", 0.25, [measure("decode", flags.size)], read_json),
        Part(
            "profile",
            0.25,
            [train("profile", last, TRACED + 4, "--profile", str(TRACED))],
            lambda _: {"shape": last} | read_trace(runs / "profile", TRACED),
        ),
        *more_f32[:-1],
        Part(
            "resume",
            0.25,
            [compared("c", COMPARED // 2), compared("c", COMPARED)],
            lambda _: {"shape": context} | compare_runs(runs / "a", runs / "c"),
            missing=lambda: "" if (runs / "a").exists() else "there is no run of the part repeat to compare with",
        ),
        more_f32[-1],
    ]


# ---- Running them


def run_parts(parts: list[Part], flags: Flags, report: dict[str, Any], deadline: float) -> None:
    """Run the parts until the deadline, and write the report after each."""
    for number, part in enumerate(parts, 1):
        seconds = min(60 * flags.minutes * part.share, deadline - time.monotonic())
        with stage(f"{number} of {len(parts)}: {part.name}, {max(0, seconds):.0f} s at most"):
            result = run_part(part, seconds, flags)
        report["parts"].append(result)
        write_report(flags.out, report)
        line = f"{result['seconds']:4.0f} s  {part.name}: {result['reason'] or 'ok'}"
        print(console.escape(line), file=sys.stderr, flush=True)


def run_part(part: Part, seconds: float, flags: Flags) -> dict[str, Any]:
    """Run a part's commands in so many seconds, and read its numbers; or say for what reason there are none."""
    start, output, reason, numbers = time.monotonic(), "", part.missing(), {}
    if not reason and seconds < LEAST_S:
        reason = f"only {max(0, seconds):.0f} s of {plural(flags.minutes, 'minute')} were left for it"
    for number, command in enumerate(part.commands, 1):
        if not reason:
            logs = flags.out / "logs" / f"{part.name.replace(' ', '-')}-{number}"
            output, reason = run_command(command, start + seconds - time.monotonic(), part.codes, logs, flags.device)
    if not reason:
        try:
            numbers = part.read(output)
        except (OSError, ValueError, LookupError, TypeError, JaxgptError) as error:
            reason = f"its output can't be read: {type(error).__name__}: {error}"
    for checkpoints in (flags.out / "runs").glob("*/checkpoints"):  # 1.5 GB each
        shutil.rmtree(checkpoints, ignore_errors=True)
    return {"part": part.name, "seconds": round(time.monotonic() - start, 1), "reason": reason, "numbers": numbers}


def run_command(command: Command, seconds: float, codes: tuple[int, ...], logs: Path, device: str) -> tuple[str, str]:
    """What a Python program prints; and why it failed, "" if it did not. It and its children are killed in time."""
    words, more = command
    words = [f"{seconds:.0f}" if word == "SECONDS" else word for word in words]
    logs.parent.mkdir(exist_ok=True)
    out, err = (logs.with_suffix(suffix) for suffix in (".out", ".err"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=ROOT,
            env=environment(device) | more,
            start_new_session=True,
        )
        try:
            code = process.wait(max(0, seconds))
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)  # a driver may hold it for ever
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return "", f"out of time: ended after {seconds:.0f} s"
    if code in codes:
        return out.read_text(errors="replace"), ""
    lines = [line for line in err.read_text(errors="replace").splitlines() if line.strip()] or ["it said nothing"]
    last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])  # libraries may add some
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return "", f"{ended}: {last.removeprefix('error: ')}"


def environment(device: str) -> dict[str, str]:
    """Of every part: no network, and one device, which JAX's variables can't change."""
    settings = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    settings["JAX_PLATFORMS"] = "cuda,cpu" if device == "gpu" else "cpu"
    settings["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    return os.environ | settings


def write_report(out: Path, report: dict[str, Any]) -> None:
    write_whole(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_whole(out / "report.md", make_table(report))


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))
