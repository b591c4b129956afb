"""Where a run comes from, as text: the run, its data and gates, and below it what it began with."""

from pathlib import Path
from typing import Any

from jaxgpt.runs.lineage import find_parents, newest_step, read_lineage

MAX_RUNS = 200  # of a tree: a lineage.json from elsewhere may name any number


def format_lineage(run: Path) -> list[str]:
    """The lines of a run's tree.

    Raises:
      CheckpointError: a lineage.json is corrupt.
    """
    lines, seen = [], set()

    def add(path: Path, about: str, indent: str, branch: str) -> None:
        lines.append(f"{indent}{branch}{path}{about}")
        indent += "    " if branch else ""
        if len(seen) >= MAX_RUNS or path.resolve() in seen:
            return
        seen.add(path.resolve())
        lineage = read_lineage(path)
        lines.extend(f"{indent}    {line}" for line in describe(path, lineage))
        for parent in find_parents(path):
            add(Path(parent["run"]), describe_parent(parent), indent, "└── ")

    add(run, "", "", "")
    return lines


def describe(run: Path, lineage: dict[str, Any] | None) -> list[str]:
    """What an update has recorded of its run, a line each."""
    if lineage is None:
        return []
    is_promoted, step, newest = lineage["promoted"], lineage["step"], newest_step(run)
    state = f"promoted {is_promoted}" if isinstance(is_promoted, str) else "not promoted"
    lines = [f"step {step:,}, {state}, run {lineage['run']}"]
    if newest is not None and newest > step:
        lines.append(f"note: trained on to step {newest:,}, which no gate has measured")
    for each in lineage["data"]:
        lines.append(f"{each['role']:<5} {each['share']:.2%} {each['name']} ({each['fingerprint']:.12})")
    return lines + [f"gate  {describe_gate(each)}" for each in lineage["gates"]]


def describe_gate(gate: dict[str, Any]) -> str:
    """A gate of lineage.json: what it has measured, and whether it was passed."""
    numbers = {name: gate.get(name) for name in ("before", "after", "change", "stderr", "limit")}
    text = {name: f"{n:.4f}" if isinstance(n, int | float) else "nan" for name, n in numbers.items()}
    change = text["change"] if text["change"].startswith("-") else f"+{text['change']}"
    found = f"{gate['name']}: {text['before']} -> {text['after']}, {change} ± {text['stderr']}"
    if numbers["limit"] is None:
        return found
    return f"{found}, limit {text['limit']} + 2 standard errors: {'passed' if gate['passed'] else 'NOT PASSED'}"


def describe_parent(parent: dict[str, Any]) -> str:
    """What is known of a parent, behind its name."""
    step, run = parent["step"], Path(parent["run"])
    about = "" if step is None else f", step {step:,}"
    if run.is_absolute() and not (run / "config.json").exists():
        about += ", not there any more"
    return about + (f", run {parent['id']}" if parent["id"] else "")
