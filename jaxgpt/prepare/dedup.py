"""Duplicates: exact ones by a hash of the text, near ones by MinHash (Broder, 1997), both by datatrove.

One of several copies is kept. Which one depends only on the input, not on the number of workers.
"""

import heapq
import itertools
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupBuildIndex,
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
    get_sig_dtype,
    read_sigs,
)
from datatrove.pipeline.dedup.minhash import (
    MinhashBuildIndex,
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)

from jaxgpt.data import shards
from jaxgpt.errors import DataError
from jaxgpt.prepare.completion import describe
from jaxgpt.prepare.drop_log import DropLog
from jaxgpt.prepare.words import SIMPLIFIED, WORDS, simplify

# 5-grams of words, 14 buckets of 8 hashes, as for FineWeb (Penedo et al., 2024): two texts that share a fraction s of
# their 5-grams are found with probability 1 - (1 - s^8)^14, which is a half at s = 0.69.
MINHASH = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, norm_config=SIMPLIFIED)
BUFFER_LINES = 4096  # signatures read at once
SHINGLES = 4096  # 5-grams hashed at once, 4 MB
BUFFER_SIGNATURES = 1 << 16  # of exact copies, kept as Python's tuples, which take ten times an array's memory


def _text(document: Document) -> str:
    return document.text


EXACT = ExactDedupConfig(content_getter=_text, only_dedup_in_index=False)


class ExactSignatures(ExactDedupSignature):
    """datatrove's step, which also passes the documents on to the next step."""

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        dtype, arrays, signatures = get_sig_dtype(self.config.hash_config), [], []
        for number, document in enumerate(data):
            signatures += self.get_hashes(document, number)
            if len(signatures) == BUFFER_SIGNATURES:
                arrays.append(np.array(signatures, dtype))
                signatures = []
            yield document
        self.save_hashes(rank, np.concatenate([*arrays, np.array(signatures, dtype)]))


def exact_signatures(work: Path) -> PipelineStep:
    """A step that writes the hash of every text."""
    return ExactSignatures(str(work / "exact" / "signatures"), EXACT)


def find_exact(work: Path, index: Path | None) -> PipelineStep:
    """Finds the texts whose hash an earlier text or the index of an earlier folder has. Runs as one task."""
    earlier = str(index / "exact") if index else None
    folders = str(work / "exact" / "signatures"), str(work / "exact" / "duplicates")
    return ExactFindDedups(*folders, EXACT, index_folder=earlier, lines_to_buffer=BUFFER_LINES)


def drop_exact(work: Path, drop_log: DropLog | None) -> PipelineStep:
    """Drops the exact duplicates, and logs them if there is a drop log."""
    step = ExactDedupFilter(str(work / "exact" / "duplicates"), EXACT, exclusion_writer=drop_log)
    step.name = "exact"
    return step


class NearSignatures(MinhashDedupSignature):
    """datatrove's step, in linear time whatever the marks of a text, and without all hashes of a long one at once."""

    def get_shingles(self, text: str) -> np.ndarray:
        return super().get_shingles(simplify(text))

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        if len(shingles) <= SHINGLES:
            return super().get_signature(shingles)
        parts = np.array_split(shingles, 1 + len(shingles) // SHINGLES)
        return np.min([*map(super().get_signature, parts)], axis=0).tolist()


def near_signatures(work: Path) -> PipelineStep:
    """Writes the MinHash of every text."""
    return NearSignatures(str(work / "near" / "signatures"), MINHASH, WORDS)


def near_buckets(work: Path, index: Path | None) -> PipelineStep:
    """Finds pairs whose hashes in a bucket are all equal. Runs as one task a bucket."""
    folders = str(work / "near" / "signatures"), str(work / "near" / "pairs")
    earlier = str(index / "near") if index else None
    return MinhashDedupBuckets(*folders, earlier, MINHASH, only_dedup_in_index=False, lines_to_buffer=BUFFER_LINES)


def near_clusters(work: Path) -> PipelineStep:
    """Joins the pairs into clusters, each of which keeps one text. Runs as one task."""
    return MinhashDedupCluster(str(work / "near" / "pairs"), str(work / "near" / "remove"), MINHASH)


def drop_near(work: Path, drop_log: DropLog) -> PipelineStep:
    """Drops the near duplicates, and logs them."""
    step = MinhashDedupFilter(str(work / "near" / "remove"), exclusion_writer=drop_log)
    step.name = "near"
    return step


class ExactIndex(ExactDedupBuildIndex):
    """datatrove's step, which fails where a task had no document."""

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> None:
        files = self.data_folder.open_files(self.data_folder.list_files())
        readers = [
            read_sigs(file, i, self.config.hash_config, lines_to_buffer=BUFFER_LINES) for i, file in enumerate(files)
        ]
        hashes = heapq.merge(*((signature.hash_value for signature in reader) for reader in readers))
        with self.output_folder.open(f"{self.index_name}.index", mode="wb") as file:
            for value, _ in itertools.groupby(hashes):
                file.write(struct.pack("<Q", value))


def index_exact(work: Path, index: Path, name: str) -> PipelineStep:
    """Writes the hashes that a later preparation can be compared with. Runs as one task."""
    return ExactIndex(str(work / "exact" / "signatures"), str(index / "exact"), name, EXACT)


def index_near(work: Path, index: Path, name: str) -> PipelineStep:
    """As `index_exact`, for MinHash. Runs as one task a bucket."""
    return MinhashBuildIndex(str(work / "near" / "signatures"), str(index / "near"), name, MINHASH, BUFFER_LINES)


def write_index(work: Path, index: Path) -> dict[str, list[int | str]]:
    """Copy the new index, and that of an earlier folder, to where they stay; returns meta.json's entry of each file."""
    for made in ("earlier", "index"):
        if (work / made).exists():
            _copy_tree(work / made, index)
    files = sorted(path for path in index.glob("*/**/*") if path.is_file())
    return {str(path.relative_to(index)): describe(path) for path in files}


def _copy_tree(source: Path, target: Path) -> None:
    """As shutil.copytree, without the modes: what is copied of a read-only folder is written to later."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):  # a folder comes before what is in it
        copy = target / path.relative_to(source)
        copy.mkdir(exist_ok=True) if path.is_dir() else shutil.copyfile(path, copy)


def require_index(folder: Path, near: bool) -> None:
    """Refuse an earlier folder that has no index of this kind, or one that is not what its meta.json lists.

    Raises:
      DataError: it names the kind, or the file.
    """
    for kind in ("exact", "near")[: 1 + near]:
        if not (folder / "index" / kind).is_dir():
            how = "--dedup minhash" if kind == "near" else "--dedup"
            raise DataError(f"{folder}: no index of {kind} duplicates there; prepare it with {how} and --index")
    written = shards.read_meta(folder).get("index", {})  # older versions list none
    for name, each in written.items() if isinstance(written, dict) else ():
        if (near or name.startswith("exact/")) and describe(folder / "index" / name) != each:
            raise DataError(
                f"{folder / 'index' / name}: missing or corrupt: it is not what {shards.META} lists, so that copies "
                f"would be kept; bring it back, or {shards.PREPARE_AGAIN}, with --fresh"
            )


def copy_index(folder: Path, near: bool, index: Path) -> None:
    """Copy an earlier folder's index, so that the new folder's index includes it and those before it."""
    shutil.rmtree(index, ignore_errors=True)
    for kind in ("exact", "near")[: 1 + near]:
        _copy_tree(folder / "index" / kind, index / kind)
