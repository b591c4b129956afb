"""The report of a preparation: what happened to every document, in numbers and line by line."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgpt.files import new_file
from jaxgpt.json_file import parse_json, read_json
from jaxgpt.prepare.drop_log import write_json
from jaxgpt.prepare.sources import Unit


def write_report(
    work: Path, out: Path, pieces: list[list[Unit]], names: list[str], splits: dict[str, Any], canaries: int
) -> dict[str, Any]:
    """Write dropped.jsonl and report.json.

    Args:
      work: the folder that the tasks wrote to.
      pieces: the input, one piece a task.
      names: the steps in their order.
      splits: the shards' entries in meta.json.
      canaries: the number of planted documents.

    Returns:
      The report: `records` found (a long one counts as the parts it was cut into), `broken` ones, `bytes` of the input,
      `steps` with how many documents each `changed`, and `dropped` by reason, `pii` by kind, `canaries`, and `kept`.
      With mirror images also `counterfactual`: the documents that were `mirrored` and their swapped `words`, and those
      that were not, as their image is the `same`, one of both is for `validation`, or the image `leaks`.

    Raises:
      AssertionError: a document is neither kept nor dropped.
    """
    read = [read_json(work / "read" / f"{rank:05d}.json") for rank in range(len(pieces))]
    dropped: dict[str, Counter] = {name: Counter() for name in dict.fromkeys(names)}
    with new_file(out / "dropped.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in _read_drop_logs(work, pieces, list(dropped), [entry["lines"] for entry in read]):
            dropped[record["step"]][record["reason"]] += 1
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    stats = _read_stats(work)
    broken = dropped["read"].total() - dropped["read"]["empty"]
    records = sum(entry["records"] for entry in read)
    kept = {name: sum(split[name] for split in splits.values()) for name in ("documents", "tokens")}
    mirrors = stats.get("counterfactual", Counter())
    added = canaries + mirrors["mirrored"]
    steps = [
        {"name": name, "changed": stats.get(name, {}).get("changed", 0), "dropped": dict(counts)}
        for name, counts in dropped.items()
    ]
    num_dropped = sum(counts.total() for counts in dropped.values())
    assert records - num_dropped == kept["documents"] - added, f"{records} found, {num_dropped} dropped, {kept} kept"
    report = {
        "records": records,
        "broken": broken,
        "bytes": sum(unit.size for piece in pieces for unit in piece),
        "steps": steps,
        "pii": {kind: count for kind, count in stats.get("pii", {}).items() if kind != "changed"},
        "canaries": canaries,
        "kept": kept,
    }
    if mirrors:
        report["counterfactual"] = {
            name: mirrors[name] for name in ("mirrored", "words", "same", "validation", "leaks")
        }
    write_json(out / "report.json", report, indent=2)
    return report


def _read_drop_logs(
    work: Path, pieces: list[list[Unit]], steps: list[str], lines: list[list[int]]
) -> Iterator[dict[str, Any]]:
    """The records of all drop logs, with line numbers in the file in place of those in the unit."""
    lines_before: Counter = Counter()  # by file: the lines in its earlier units
    for rank, piece in enumerate(pieces):
        first = []
        for unit, count in zip(piece, lines[rank], strict=True):
            if unit.start == 0:
                lines_before[unit.name] = 0
            first.append(lines_before[unit.name])
            lines_before[unit.name] += count
        for step in steps:
            path = work / "dropped" / f"{rank:05d}" / f"{step}.jsonl"
            if path.exists():
                with path.open("rb") as file:
                    for record in map(parse_json, file):
                        record["line"] += first[record.pop("unit")]
                        yield record


def _read_stats(work: Path) -> dict[str, Counter]:
    """The steps' counts, summed over all tasks."""
    total: dict[str, Counter] = {}
    for path in sorted((work / "stages").glob("*/stats/*.json")):
        for step in read_json(path):
            name = step["name"].rsplit(": ", 1)[-1]
            counts = {label: _number(count) for label, count in step["stats"].items()}
            total.setdefault(name, Counter()).update(counts)
    return total


def _number(count: Any) -> int:
    return int(count["total"] if isinstance(count, dict) else count)
