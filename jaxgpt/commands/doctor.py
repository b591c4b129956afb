"""Look at this machine as a run will use it, a line for each part: `jaxgpt doctor`."""

import contextlib
import ctypes
import dataclasses
import datetime
import email.utils
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from jaxgpt.commands.flags import parse
from jaxgpt.console import plural, say
from jaxgpt.data.cache import cache_folder
from jaxgpt.errors import JaxgptError
from jaxgpt.files import report_write_errors, require_new, require_writable, write_whole
from jaxgpt.progress_bar import stage

ROOT = Path("/")  # of the file in which the driver says its version
REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"  # of a checkout; a package has them in its metadata
REINSTALL = "in a new environment: pip install -r requirements.txt"
CUDA = 12  # which jax[cuda12] needs
CHECKPOINT = 1.5e9  # bytes, of GPT-2 124M
STEP_MEMORY = 4e9  # bytes, of the main job
SAMPLE = 2**26  # bytes that are written to time the disk
SLOW = 50e6  # bytes a second, at which that checkpoint takes half a minute
TIMEOUT_S = 5  # of the network
CLOCK_S = 300  # which the clock may differ from the network's
ATTENTION_ERROR = 1e-2  # between two ways to compute it in bfloat16

# Of two packages, or of one and the driver ("driver"): which don't work together, how that shows, and the way out.
BAD_PAIRS = (
    ("jax", ">=0.11.1", "flax", "<0.12.12", "flax can't be imported; pip install 'flax>=0.12.12'"),
    (
        "jax",
        ">=0.10.2,<0.12",
        "driver",
        ">=535,<536",
        "with CUDA 12.9, 'Failed to add memset node to a CUDA graph'; update the driver, or set "
        "XLA_FLAGS=--xla_gpu_enable_command_buffer=",
    ),
)

Finding = tuple[str, str]  # ok, note (a run works, with less) or wrong; and what


@dataclasses.dataclass(frozen=True)
class DoctorConfig:
    """Look at this machine as a run will use it: a line for each part, which is ok or says what to do.

    The exit code is 1 if something keeps runs from working, else 0.
    """

    out: Path = Path("runs")
    """Where runs are written: its disk is measured, with a file of 64 MB that is deleted."""
    json: Path | None = None
    """Write the findings here, too: a list of {part, verdict, text}."""


def main(argv: Sequence[str]) -> int:
    config = parse(DoctorConfig, argv, command="doctor")
    if config.json:
        require_writable("--json", config.json)
        require_new("--json", config.json)
    findings = []
    for part, check in CHECKS.items():
        with stage(f"looking at {part}"):
            found = list(examine(check, config))
        for verdict, text in found:
            say(part, f"{verdict:<5} {text}")
            findings.append({"part": part, "verdict": verdict, "text": text})
    if config.json:
        write_whole(config.json, json.dumps(findings, indent=1, ensure_ascii=False) + "\n", new=True)
    wrong = sum(finding["verdict"] == "wrong" for finding in findings)
    print(f"{plural(wrong, 'thing')} to mend" if wrong else "runs can work here")
    return int(wrong > 0)


def examine(check: Callable[[DoctorConfig], Iterator[Finding]], config: DoctorConfig) -> Iterator[Finding]:
    """What a check finds; that it fails itself is a finding too, since what it looks at may be broken in any way."""
    try:
        yield from check(config)
    except JaxgptError as error:
        yield "wrong", str(error)
    except Exception as error:
        reason = (str(error).splitlines() or ["no reason is given"])[0]
        yield "wrong", f"{type(error).__name__}: {reason}; {REINSTALL}"


def check_python(config: DoctorConfig) -> Iterator[Finding]:
    yield "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, in {sys.prefix}"


def check_packages(config: DoctorConfig) -> Iterator[Finding]:
    tested = read_requirements()
    names = dict.fromkeys([*(line.name for line in tested), "jaxlib", "jax-cuda12-plugin", "nvidia-cudnn-cu12"])
    versions = {name: version for name in names if (version := find_version(name))}
    for line in tested:
        version = versions.get(line.name)
        if version is None or not line.specifier.contains(version, prereleases=True):
            have = f"{line.name} {version} is installed" if version else f"{line.name} is missing"
            yield "wrong", f"{have}, and {line.specifier} was tested; {REINSTALL}"
    for name in ("jaxlib", "jax-cuda12-plugin"):
        if name in versions and versions[name] != versions.get("jax"):
            yield "wrong", f"{name} {versions[name]} is not of jax {versions.get('jax')}; {REINSTALL}"
    versions["driver"] = driver_version()
    for name, bad, other, other_bad, what in BAD_PAIRS:
        pair = (name, bad), (other, other_bad)
        if all(versions.get(n) and SpecifierSet(s).contains(versions[n], prereleases=True) for n, s in pair):
            yield "wrong", f"{name} {versions[name]} and {other} {versions[other]}: {what}"
    yield "ok", ", ".join(f"{name} {versions[name]}" for name in names if name in versions)


def read_requirements() -> list[Requirement]:
    """The packages that a run needs, of this system and Python, with the versions that were tested."""
    if REQUIREMENTS.exists():
        lines = [line.partition("#")[0] for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    else:
        lines = importlib.metadata.requires("jaxgpt") or []
    requirements = [Requirement(line) for line in lines if line.strip()]
    return [line for line in requirements if not line.marker or line.marker.evaluate({"extra": ""})]


def find_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def driver_version() -> str | None:
    """That of NVIDIA's kernel module, such as 535.183.01."""
    with contextlib.suppress(OSError):
        text = (ROOT / "proc/driver/nvidia/version").read_text()
        if found := re.search(r"Kernel Module\D*([\d.]+)", text):
            return found[1]
    return None


def check_driver(config: DoctorConfig) -> Iterator[Finding]:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        yield (
            "note",
            "no NVIDIA driver was found: runs use the CPU; if there is an NVIDIA GPU, install its driver",
        )
        return
    number, count = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(number))
    cuda, named = number.value / 1000, f"driver {driver_version() or 'of unknown version'}"
    if cuda < CUDA:
        yield "wrong", f"{named} is for CUDA {cuda:.1f}, and JAX needs {CUDA}: update it to 525 or later"
    elif code := driver.cuInit(0):
        yield "wrong", f"{named} does not start (cuInit: {code}); see nvidia-smi, and restart after an update of it"
    elif driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        yield "wrong", f"{named} lists no GPU; see nvidia-smi, and CUDA_VISIBLE_DEVICES"
    else:
        yield "ok", f"{named}, for CUDA up to {cuda:.1f}: {plural(count.value, 'GPU')}"


def check_device(config: DoctorConfig) -> Iterator[Finding]:
    import jaxgpt.training.setup  # noqa: F401 -- that what a run needs can't be imported is an answer
    from jaxgpt.runtime import device

    name = device.select("auto")
    expected_gpu = device.nvidia_gpus() > 0 and os.environ.get("JAX_PLATFORMS", "cuda") != "cpu"
    yield "wrong" if expected_gpu and name.startswith("CPU") else "ok", name


def check_attention(config: DoctorConfig) -> Iterator[Finding]:
    from jaxgpt.runtime import device

    if device.compute("auto", 1, 64, 128)["attention"] != "cudnn":
        yield "ok", "the formula written out; cuDNN's is for a GPU of 2020 or later"
        return
    error = attention_error("cudnn")
    if error <= ATTENTION_ERROR:
        yield "ok", f"cuDNN's differs from the formula by {error:.1e}, in bfloat16"
    else:
        yield "wrong", f"cuDNN's differs from the formula by {error:.1e}, and {ATTENTION_ERROR} is usual; {REINSTALL}"


def attention_error(implementation: str) -> float:
    """The largest difference between an implementation in bfloat16 and the formula in float32, of values around 1."""
    import jax
    import jax.numpy as jnp

    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 128, 4, 64), jnp.bfloat16)
    exact = jax.nn.dot_product_attention(*(x.astype(jnp.float32) for x in (q, k, v)), is_causal=True)
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)
    return float(jnp.abs(y.astype(jnp.float32) - exact).max())


def check_memory(config: DoctorConfig) -> Iterator[Finding]:
    from jaxgpt.runtime import device

    free = device.free_memory()
    if free < STEP_MEMORY:
        yield "note", f"{free / 1e9:.1f} GB are free, and GPT-2 124M takes 4: end other programs, or use --size tiny"
    else:
        yield "ok", f"{free / 1e9:.1f} GB are free"


def check_disk(config: DoctorConfig) -> Iterator[Finding]:
    where = next(path for path in (config.out.absolute(), *config.out.absolute().parents) if path.exists())
    free = shutil.disk_usage(where).free
    with report_write_errors(where), tempfile.TemporaryFile(dir=where) as file:
        start = time.perf_counter()
        file.write(os.urandom(2**20) * (SAMPLE // 2**20))
        file.flush()
        os.fsync(file.fileno())
        speed = SAMPLE / (time.perf_counter() - start)
    text = f"{where}: {free / 1e9:.1f} GB are free, {speed / 1e6:,.0f} MB/s are written"
    if free < 4 * CHECKPOINT:
        yield "note", f"{text}; a run of GPT-2 124M keeps four checkpoints of 1.5 GB: make room, or use another --out"
    elif speed < SLOW:
        seconds = f"a checkpoint of GPT-2 124M takes {CHECKPOINT / speed:.0f} s"
        yield "note", f"{text}; {seconds}: use a larger --save-every, or another --out"
    else:
        yield "ok", text


def check_cache(config: DoctorConfig) -> Iterator[Finding]:
    from jaxgpt.runs.hub import cached_models

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        yield "note", f"{folder}: {error.strerror}: each start tokenizes and compiles anew; set JAXGPT_CACHE=FOLDER"
    else:
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
        yield "ok", f"{folder}: {size / 1e6:,.0f} MB of tokens and compiled programs"
    models = ", ".join(cached_models())
    yield "ok", f"OpenAI's models that need no network: {models or 'none yet'}"


def check_network(config: DoctorConfig) -> Iterator[Finding]:
    host = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        yield "ok", "HF_HUB_OFFLINE is set: nothing is fetched"
        return
    try:
        with urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=TIMEOUT_S) as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as answer:  # who refuses is there
        date = answer.headers.get("Date")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        yield (
            "note",
            f"{host} can't be reached ({reason}): weights must be in the cache, or in a folder of yours",
        )
        return
    yield "ok", f"{host} can be reached"
    ahead = time.time() - email.utils.parsedate_to_datetime(date).timestamp() if date else 0
    if abs(ahead) > CLOCK_S:
        yield "note", f"the clock is {abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}: set it"


def check_clock(config: DoctorConfig) -> Iterator[Finding]:
    now, written = time.time(), Path(__file__).stat().st_mtime
    text = f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
    if now < written - CLOCK_S:
        yield "note", f"{text} is before jaxgpt was installed: set the clock, as downloads check certificates by it"
    else:
        yield "ok", text


CHECKS: dict[str, Callable[[DoctorConfig], Iterator[Finding]]] = {
    "python": check_python,
    "packages": check_packages,
    "driver": check_driver,
    "device": check_device,
    "attention": check_attention,
    "memory": check_memory,
    "disk": check_disk,
    "cache": check_cache,
    "network": check_network,
    "clock": check_clock,
}
