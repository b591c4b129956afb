"""Which runs have read what is erased, at which step first, and what has their weights."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxgpt.commands.erase.runs import PRUNED, RunFacts
from jaxgpt.data.config import DataConfig
from jaxgpt.data.datasets import is_examples, training_data
from jaxgpt.data.masking import Masked
from jaxgpt.data.order import parse_mixture
from jaxgpt.data.reads import first_read
from jaxgpt.data.redaction import cut, merge
from jaxgpt.data.shards import Tokens
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.text_part import TextPart, name_of_whole, parse_part, place_of
from jaxgpt.data.versions import texts_of, versions
from jaxgpt.errors import JaxgptError
from jaxgpt.runs.provenance import read_provenance
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.erased import stretches_of

# Of a private run: its rows are drawn by a secret, and two models of one noise would tell what only one has read.
PRIVATE = "it is private, and its noise must not come again on other data"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A run that reads the folder, or began with weights that had.

    Attributes:
      run: the run.
      first: the first step that has read what is erased; None: none has.
      why: what else there is to say.
      generation: 0, or how many runs on it is from one that has read it.
      unknown: why it is not known what it has read; "" if it is.
    """

    run: RunFacts
    first: int | None
    why: str = ""
    generation: int = 0
    unknown: str = ""

    @property
    def clean(self) -> int:
        """The newest checkpoint before that step, in steps; 0: there is none, and the run starts over."""
        steps = (step for path, step in self.run.checkpoints.items() if path.name.isdecimal())
        return max((step for step in steps if self.first is None or step <= self.first), default=0)

    @property
    def tainted(self) -> list[Path]:
        """The checkpoints that have read it, and halves that a kill has left, perhaps of this command."""
        last = self.run.steps if self.first is None else self.first
        found = sorted(self.run.checkpoints.items(), key=lambda item: (item[1], item[0]))
        return [path for path, step in found if step > last or step < 0]


def examine(run: RunFacts, folder: Path, splits: Mapping[str, Tokens], new: Mapping[str, np.ndarray]) -> Reader | None:
    """A run as a reader of a folder; None: it does not read it.

    Args:
      splits: of the folder.
      new: the ranges that are to be erased, by split.
    """
    names = _names(run.config)
    is_named = any(is_same(name, folder) for name in names)
    known = versions(_as_text(splits["train"])) if "train" in splits else {}
    if not is_named and all(start["fingerprint"] not in known for start in run.starts):
        return Reader(run, None, why) if (why := _validates(run, folder, splits, new)) else None
    if any(is_same(name, folder) and not os.path.isdir(name_of_whole(name)) for name in names):
        return Reader(run, None, unknown="it reads a shard as a token file, and not the folder")
    try:
        data = _open_data(run.config, None if is_named else folder)
    except JaxgptError as error:
        return Reader(run, None, unknown=f"its data can't be opened: {error}")
    found = versions(data)
    if run.starts[0]["step"] or any(start["fingerprint"] not in found for start in run.starts):
        why = "it read other tokens than the folder has, or its config.json lacks its first steps"
        return Reader(run, None, unknown=why)
    now = []
    for name, text in zip(names if is_named else [str(folder)], texts_of(data), strict=True):
        first, _ = place_of(name, len(splits["train"]) if "train" in splits else 0)
        read = new.get("train", merge([])) if is_same(name, folder) else merge([])
        now.append(cut(read, first, first + len(text.tokens)))
    why = _validates(run, folder, splits, new)
    if run.config.privacy.is_private:
        erased = (ranges for start in run.starts for ranges in [*found[start["fingerprint"]], *now])
        return Reader(run, 0, PRIVATE) if any(len(ranges) for ranges in erased) else Reader(run, None, why)
    ends = [*(start["step"] for start in run.starts[1:]), run.steps]
    for start, stretch, end in zip(run.starts, stretches_of(data, run.starts), ends, strict=True):
        ranges = [merge([*before, *more]) for before, more in zip(found[start["fingerprint"]], now, strict=True)]
        if (step := first_read(data, ranges, stretch, end)) is not None:
            return Reader(run, step, why)
    return Reader(run, None, why)


def _names(config: TrainConfig) -> list[str]:
    """The texts that a run is trained on, by name; none if it is trained on examples or by rewards."""
    data: DataConfig = config.data
    if data.mix is not None:
        return list(parse_mixture(data.mix)[0])
    is_text, whole = not config.rollout.env and not config.rollout.reward, name_of_whole(data.data)
    return [data.data] if is_text and os.path.exists(whole) and not is_examples(whole, config.fields) else []


def is_same(name: str, folder: Path) -> bool:
    """Whether a flag names a folder, a part of it, or one of its shards."""
    path = Path(name_of_whole(name))
    return any(os.path.exists(each) and os.path.samefile(each, folder) for each in (path, path.parent))


def _as_text(tokens: Tokens) -> Text:
    return Text("", tokens, tokens.fingerprint, B=1, T=1)


def _open_data(config: TrainConfig, moved: Path | None) -> Text | Windows | Masked:
    flags = config.data if moved is None else dataclasses.replace(config.data, data=str(moved), mix=None)
    bidirectional = config.model_config().bidirectional
    return training_data(flags, config.run.seed, config.preset.predict_tokens, config.fields, bidirectional)


def _validates(run: RunFacts, folder: Path, splits: Mapping[str, Tokens], new: Mapping[str, np.ndarray]) -> str:
    """What to say of a run whose validation data has what is erased; "" if it has not."""
    data, names = run.config.data, [*run.config.data.val_also_texts.values()]
    if not data.val_fraction:
        names += [data.val] if data.val is not None else []
    elif data.mix is None:
        names.append(str(TextPart(data.data, data.val_fraction, is_end=True)))
    for name in names:
        split = "train" if parse_part(name) else "val"
        if is_same(name, folder) and split in splits:
            erased = merge([*splits[split].erased, *new.get(split, [])])
            if len(cut(erased, *place_of(name, len(splits[split])))):
                return "its validation data has it, and its val_loss was measured on that"
    return ""


# ---- What has their weights


def find_links(roots: Sequence[Path], readers: Sequence[Reader]) -> list[Path]:
    """The links, at and below some folders, to runs that have tainted checkpoints, or to these, such as `promoted`."""
    tainted = [reader for reader in readers if reader.first is not None and reader.tainted]
    ends = {os.path.realpath(path) for reader in tainted for path in (reader.run.folder, *reader.tainted)}
    found = {}
    for root in roots if ends else ():
        for place, names, files in os.walk(root):
            paths = [os.path.join(place, name) for name in (*names, *files)]
            found |= {os.path.abspath(path): Path(path) for path in paths if os.path.islink(path)}
            names[:] = sorted(
                name for name in names if not name.startswith(".") and name not in (*PRUNED, "checkpoints")
            )
    return [path for path in found.values() if os.path.realpath(path) in ends]


def spread(
    readers: Sequence[Reader], runs: Sequence[RunFacts], exports: Sequence[Path]
) -> tuple[list[Reader], list[Path], list[Path]]:
    """The readers with the runs that began with their weights, over any number of runs and exports.

    Returns:
      The readers; the exports that have read it; and those of which it is not known, since they have no provenance.
    """
    found = {reader.run.folder.resolve(): reader for reader in readers}
    places = {run.folder.resolve() for run in runs}
    while True:
        origins = {export: _find_origin(export, found, places) for export in exports}
        tainted = {export.resolve() for export, origin in origins.items() if origin == "tainted"}
        heirs = [heir for run in runs if (heir := _inherit(run, found, tainted))]
        if not heirs:
            return list(found.values()), *(
                [e for e in exports if origins[e] == kind] for kind in ("tainted", "unknown")
            )
        found |= {heir.run.folder.resolve(): heir for heir in heirs}


def _inherit(run: RunFacts, found: Mapping[Path, Reader], exports: set[Path]) -> Reader | None:
    """A run as one that began with weights which had read it; None: it did not, or that is known."""
    own = found.get(run.folder.resolve())
    if not (run.steps or run.checkpoints) or (own and own.first == 0):
        return None
    for parent, step in run.parents:
        reader = found.get(parent)
        has_read = reader is not None and reader.first is not None and (step is None or step > reader.first)
        if parent != run.folder.resolve() and (has_read or parent in exports):
            return Reader(
                run, 0, f"it began with the weights of {parent.name}", 1 + (reader.generation if reader else 0)
            )
    return None


def _find_origin(export: Path, found: Mapping[Path, Reader], places: set[Path]) -> str:
    """Whether an export is "tainted", "clean" or "unknown", by its provenance."""
    provenance = read_provenance(export)
    if provenance is None:
        return "unknown"
    run = (export / provenance.run).resolve()
    if run in places:
        sources = [found[run]] if run in found else []
    else:  # one of them was moved: the runs with such data
        sources = [
            each for each in found.values() if provenance.data in (start["fingerprint"] for start in each.run.starts)
        ]
    has_read = any(each.first is not None and provenance.step > each.first for each in sources)
    is_known = run in places and not any(each.unknown for each in sources)
    return "tainted" if has_read else "clean" if is_known else "unknown"
