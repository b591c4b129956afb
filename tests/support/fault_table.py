"""How well the preparation of data finds what is wrong: precision and recall of each fault of a known corpus.

    python -m tests.support.fault_table

writes the corpus of tests/support/faults.py, prepares it with the real command, and compares what became of each
document with the truth. A fault that is mended counts as found if the right text of its document is among the results;
a document that is not to be changed and is, counts against the precision.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgpt import console
from jaxgpt.commands import prepare
from jaxgpt.data.gpt2_tokenizer import encoding
from tests.support import faults

Rates = tuple[float, float, int]  # precision, recall, how many faults there are
CLEAN = ("unicode", "controls", "boilerplate", "gopher-repetition", "gopher-quality")


def measure(folder: Path) -> dict[str, Rates]:
    """Prepare the corpus in a folder, and give the rates of each fault."""
    (folder / "corpus").mkdir()
    truth = faults.write(folder / "corpus")
    files = [str(folder / "corpus" / name) for name in truth.files]
    flags = ["--dedup", "minhash", "--decontaminate", str(folder / "corpus" / truth.eval_file), "--workers", "1"]
    for name, more in (("main", ["--clean", *CLEAN]), ("private", ["--clean", "none", "--pii", "replace"])):
        if console.run(prepare.main, [*files, "--out", str(folder / name), *flags, *more]):
            raise RuntimeError("the preparation failed")
    kept, private = (Counter(_documents(folder / name)) for name in ("main", "private"))
    names = {place: name for name, place in truth.where.items()}
    dropped: dict[str, list] = {}
    for line in (folder / "main" / "dropped.jsonl").read_text().splitlines():
        record = json.loads(line)
        place = (Path(record["file"]).name, record["line"])
        step = record["step"] if record["step"] != "read" or record["reason"] == "empty" else "broken"
        dropped.setdefault(step, []).append(place if step == "broken" else names[place])
    poor = dropped.get("gopher-repetition", []) + dropped.get("gopher-quality", [])
    right = faults.mended(truth)
    return {
        "exact copies": _groups(dropped["exact"], truth.exact),
        "near copies": _groups(dropped["near"], truth.near),
        "wrong encoding": _repaired(kept, right, truth.mojibake, truth.odd + truth.clean, poor),
        "control characters": _repaired(kept, right, truth.control, truth.clean, poor),
        "boilerplate": _repaired(kept, right, truth.boilerplate, [*truth.mentions, *truth.clean], poor),
        "low quality": _rates(poor, truth.low_quality),
        "leaks of an evaluation": _rates(dropped["decontaminate"], {**truth.leaks, **truth.leaks_recased}),
        "empty": _rates(dropped["read"], truth.empty),
        "broken": _rates(dropped["broken"], truth.broken),
        "personal data": _repaired(private, right, truth.pii, [*truth.lookalikes, *truth.clean], []),
    }


def _documents(folder: Path) -> list[str]:
    ids = np.concatenate([np.fromfile(file, "<u2", offset=1024) for file in sorted(folder.glob("*.bin"))]).astype(int)
    parts = np.split(ids, np.flatnonzero(ids == 50256))
    return [encoding().decode(part[1:].tolist()) for part in parts if len(part)]


def _rates(found, true) -> Rates:
    return *faults.rates(found, true), len(true)


def _groups(dropped: list[str], groups: list[list[str]]) -> Rates:
    """Of each group all but one are to go; the last one that goes as well is a mistake."""
    surplus = sum(len(group) - 1 for group in groups)
    right = sum(min(len(group) - 1, len(set(group) & set(dropped))) for group in groups)
    return right / len(dropped), right / surplus, surplus


def _repaired(kept: Counter, right: dict[str, str], faulty, sound: list[str], poor: list[str]) -> Rates:
    """Whether faulty documents are as they should be, and sound ones as they were; of those that passed the filters."""
    faulty, sound = [name for name in faulty if name not in poor], [name for name in sound if name not in poor]
    mended = sum(kept[right[name]] > 0 for name in faulty)
    spoilt = sum(not kept[right[name]] for name in sound)
    return mended / (mended + spoilt), mended / len(faulty), len(faulty)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    table = Table("fault", "there are", "precision", "recall")
    for name, (precision, recall, count) in rows.items():
        table.add_row(name, f"{count}", f"{precision:.3f}", f"{recall:.3f}")
    Console(width=80).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
