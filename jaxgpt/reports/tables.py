"""The tables of a report: what runs have reached, how they differ, what they were trained on, where they come from."""

import json
import math
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.console import plural, program
from jaxgpt.data import shards
from jaxgpt.errors import DataError
from jaxgpt.page import render_table
from jaxgpt.reports.history import History
from jaxgpt.reports.logged_run import LoggedRun
from jaxgpt.reports.spikes import Spike

MAX_ROWS = 20  # of a table
MAX_CHARS = 200  # of a value
SHORT = 16  # of a value among others, such as a fingerprint
RECENT = 10  # steps whose mean loss is shown, as `jaxgpt train` prints it at its end
SUMMARY = ("starts", "versions", "labels")  # of config.json, what is no setting
VALIDATION = {"loss_stderr": "±", "perplexity": "perplexity", "bits_per_byte": "bits per byte", "accuracy": "accuracy"}
VALIDATION |= {"bits_per_masked_token": "bits per masked token"}


def show(value: Any) -> str:
    """A value of JSON for a cell."""
    text = value if isinstance(value, str) else "-" if value is None else json.dumps(value)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} [...]"


def show_number(value: float, digits: int = 4) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.{digits}f}" if abs(value) < 1e9 else f"{value:.{digits}e}"


def show_time(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.1f} s"


def compare_table(title: str, runs: Sequence[LoggedRun], facts: Sequence[dict[str, str]]) -> str:
    """A table with a column for each run and a row for each fact that one has; "" if there is none."""
    names = dict.fromkeys(name for each in facts for name in each)
    rows = [[name, *(each.get(name, "") for each in facts)] for name in names]
    return render_table(title, ["", *(run.label for run in runs)], rows) if rows else ""


# ---- What was reached


def summary_table(runs: Sequence[LoggedRun]) -> str:
    return compare_table("Where the runs are" if len(runs) > 1 else "Where the run is", runs, [*map(summarize, runs)])


def summarize(run: LoggedRun) -> dict[str, str]:
    """A run's main numbers, in words."""
    history, steps = run.history, run.config["steps"]
    facts = {"steps": f"{run.steps_done:,} of {steps:,}" if type(steps) is int else f"{run.steps_done:,}"}
    if not len(history.steps):
        return facts | {"loss": "no step is in its log yet"}
    last = history["loss"][-RECENT:]
    last = last[np.isfinite(last)]
    facts[f"loss, mean of the last {RECENT} steps"] = show_number(last.mean() if len(last) else np.nan)
    at, losses = history.validated(), history["val_loss"]
    if np.isfinite(losses[at]).any():
        best = at[np.nanargmin(losses[at])]
        facts["validation loss"] = _with_error(history, at[-1])
        facts["best validation loss"] = _with_error(history, best)
        facts["best at step"] = f"{history.steps[best] + 1:,}"
    speed = history["tokens_per_s"][1:] if len(history.steps) > 1 else history["tokens_per_s"]  # the first compiles
    facts["tokens trained on"] = f"{history['tokens_seen'][-1]:,.0f}"
    if np.isfinite(speed).any():
        facts["tokens/s, median"] = f"{np.nanmedian(speed):,.0f}"
    facts["training time"] = show_time(history.seconds()[-1])
    starts = list_starts(run)
    if starts and type(starts[-1].get("step_bytes")) is int:
        facts["memory of a step, on one device"] = f"{starts[-1]['step_bytes'] / 1e9:.2f} GB"
    skipped = sum(math.isnan(each.loss) for each in run.spikes)
    facts["loss spikes"] = f"{len(run.spikes) - skipped:,}" + f"; {plural(skipped, 'step')} skipped" * bool(skipped)
    missing = int(history.steps[-1] - history.steps[0]) + 1 - len(history.steps)
    lines = {"steps without a row": missing, "malformed log lines": history.skipped_lines}
    return facts | {name: f"{number:,}" for name, number in lines.items() if number}


def _with_error(history: History, i: int) -> str:
    loss, error = history["val_loss"][i], history["val_loss_stderr"][i]
    return show_number(loss) + (f"\u00a0±\u00a0{show_number(error)}" if np.isfinite(error) else "")


def validations_table(runs: Sequence[LoggedRun]) -> str:
    """The newest validations: all numbers of one run's, and of several the losses beside each other."""
    steps = sorted({int(step) + 1 for run in runs for step in run.history.steps[run.history.validated()]})
    title = "Validation" + f", the newest {MAX_ROWS} of {len(steps):,}" * (len(steps) > MAX_ROWS)
    steps = steps[-MAX_ROWS:]
    if len(runs) > 1:
        header, cells = [run.label for run in runs], [_losses_after(run, steps) for run in runs]
    else:
        (run,) = runs
        at = np.searchsorted(run.history.steps + 1, steps)
        names = [name for name in VALIDATION if np.isfinite(run.history[f"val_{name}"][at]).any()]
        header = ["loss", *(VALIDATION[name] for name in names)]
        cells = [[*map(show_number, run.history[f"val_{name}"][at])] for name in ("loss", *names)]
    rows = zip([f"{step:,}" for step in steps], *cells, strict=True)
    return render_table(title, ["after steps", *header], rows) if steps else ""


def _losses_after(run: LoggedRun, steps: Sequence[int]) -> list[str]:
    rows = {int(run.history.steps[i]) + 1: i for i in run.history.validated().tolist()}
    return [_with_error(run.history, rows[step]) if step in rows else "" for step in steps]


def spikes_table(run: LoggedRun) -> str:
    """A run's highest spikes with the command that shows the batch of each; first the steps that were skipped."""
    highest = sorted(run.spikes, key=lambda each: each.usual - each.loss if math.isfinite(each.loss) else -math.inf)
    shown = sorted(highest[:MAX_ROWS], key=lambda each: each.step)
    title = f"Loss spikes of {run.label}" + f", the {MAX_ROWS} highest of {len(highest):,}" * (len(highest) > MAX_ROWS)
    rows = [[f"{spike.step:,}", show_number(spike.loss), *_describe_spike(run, spike)] for spike in shown]
    return render_table(title, ["step", "loss", "median before", "look at its batch"], rows) if rows else ""


def _describe_spike(run: LoggedRun, spike: Spike) -> list[str]:
    usual = show_number(spike.usual) if math.isfinite(spike.usual) else "skipped"
    kind = run.config.get("data_kind", run.config.get("objective"))
    if kind not in ("text", "preferences", "ratings"):
        return [usual, f"{program('replay')} shows no run on {kind}"]
    return [usual, f"{program('replay')} {shlex.join([str(run.folder), '--step', str(spike.step)])}"]


# ---- What the runs are


def settings(run: LoggedRun) -> dict[str, str]:
    """The flags and versions of a run's last start."""
    versions = run.config.get("versions")
    versions = {f"version of {name}": value for name, value in versions.items()} if isinstance(versions, dict) else {}
    flags = {name: value for name, value in run.config.items() if name not in SUMMARY} | versions
    return {name: show(value) for name, value in flags.items()}


def differences_table(runs: Sequence[LoggedRun]) -> str:
    """The settings in which runs differ; "" for one run, or if there are none."""
    facts = [settings(run) for run in runs]
    names = dict.fromkeys(name for each in facts for name in each)
    different = [name for name in names if len({each.get(name) for each in facts}) > 1 and name != "out"]
    return compare_table(
        "Settings that differ", runs, [{name: each.get(name, "none") for name in different} for each in facts]
    )


def settings_table(runs: Sequence[LoggedRun]) -> str:
    return compare_table("All settings", runs, [*map(settings, runs)])


def data_table(runs: Sequence[LoggedRun]) -> str:
    """The data card: what each run was trained and measured on."""
    return compare_table("Data", runs, [*map(describe_data, runs)])


def describe_data(run: LoggedRun) -> dict[str, str]:
    """What a run was trained and measured on, in words."""
    names = {"corpus": "corpus", "data_kind": "kind", "fingerprint": "SHA-256 of its tokens", "val": "validation"}
    names |= {"mix": "mixture", "order": "order", "labels": "labels"}
    facts = {name: show(run.config[key]) for key, name in names.items() if run.config.get(key)}
    folder = find_data(run)
    return facts | (_describe_prepared(folder, run.config["fingerprint"]) if folder else {})


def find_data(run: LoggedRun) -> Path | None:
    """The prepared folder that a run was trained on, if it is still there."""
    data, cwd = run.config.get("data"), run.config.get("cwd")
    if not isinstance(data, str) or run.config.get("mix"):
        return None
    folder = Path(cwd if isinstance(cwd, str) else "") / data
    return folder if os.path.isfile(folder / shards.META) else None  # False too for what can't be a name


def _describe_prepared(folder: Path, fingerprint: Any) -> dict[str, str]:
    """What a prepared folder's meta.json says of it."""
    try:
        meta = shards.read_meta(folder)
        facts = {"prepared folder": str(folder)}
        if shards.open_split(folder, "train", shards.read_tokenizer(folder)).fingerprint != fingerprint:
            return facts | {"note": "it has changed since the run began"}
        for name, split in meta["splits"].items():
            numbers = (f"{split[key]:,} {unit}" for key, unit in (("documents", "documents"), ("tokens", "tokens")))
            facts[f"split {name}"] = f"{', '.join(numbers)}, {split['text_bytes']:,} bytes of text"
        report = meta["report"]
        dropped = sum(sum(step["dropped"].values()) for step in report["steps"])
        facts["records"] = f"{report['records']:,} read, {dropped:,} dropped, {report['broken']:,} broken"
        facts |= {f"personal data: {kind}": f"{number:,}" for kind, number in report["pii"].items()}
        return facts | {"canaries": f"{report['canaries']:,}", "made by": show(meta["command"])}
    except (DataError, ValueError, KeyError, TypeError, AttributeError):
        return {"prepared folder": f"{folder}: can't be read"}


def lineage_table(runs: Sequence[LoggedRun]) -> str:
    return compare_table("Lineage", runs, [*map(_describe_lineage, runs)])


def _describe_lineage(run: LoggedRun) -> dict[str, str]:
    starts = list_starts(run)
    facts = {
        "began with": show(run.config.get("init_from") or "random weights, of --seed " + show(run.config.get("seed")))
    }
    if run.config.get("base") not in (None, run.config.get("init_from")):
        facts["which are those of"] = show(run.config["base"])
    for start, before in zip(starts, [{}, *starts], strict=False):
        changed = {key: value for key, value in start.items() if key != "step" and before.get(key) != value}
        text = ", ".join(f"{name} {show(value)[:SHORT]}" for name, value in changed.items())
        facts[f"{'resumed' if before else 'began'} at step {show(start.get('step'))}"] = text or "as before"
    saved = sorted(int(path.name) for path in _list(run.folder / "checkpoints") if path.name.isdecimal())
    return facts | ({"checkpoints": ", ".join(f"{step:,}" for step in saved[-MAX_ROWS:])} if saved else {})


def list_starts(run: LoggedRun) -> list[dict[str, Any]]:
    """What config.json has of each start of a run, the first one first."""
    starts = run.config.get("starts")
    return [each for each in starts if isinstance(each, dict)] if isinstance(starts, list) else []


def _list(folder: Path) -> Iterable[Path]:
    try:
        return [*folder.iterdir()]
    except OSError:
        return []
