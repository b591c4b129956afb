"""Tensors in safetensors files: found and described at once, read one at a time."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from jaxgpt.errors import CheckpointError
from jaxgpt.json_file import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in a file, not read yet."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def require(self, shape: tuple[int, ...], by: str = "config.json") -> None:
        """Refuse another shape than this one, which `by` makes it have, and what is no float.

        Raises:
          CheckpointError: it names the tensor.
        """
        if self.shape != shape:
            raise CheckpointError(f"{self.file}: tensor {self.name} has shape {self.shape}, and by {by} it has {shape}")
        if self.dtype not in FLOATS:
            raise CheckpointError(f"{self.file}: tensor {self.name} is {self.dtype}; {', '.join(FLOATS)} are read")

    def read(self, to: np.ndarray) -> None:
        """Read it into an array of its shape.

        Raises:
          CheckpointError: the file is corrupt, or the numbers are not all finite.
        """
        # A file is opened for each of its tensors because the pages of one that stays open stay in memory.
        with _open(self.file) as tensors:
            values = tensors.get_tensor(self.name)
        with np.errstate(over="ignore"):  # of float64; the next line sees it
            to[:] = values
        if not np.isfinite(to.sum(dtype=np.float64)):  # finite float32 numbers can't reach float64's infinity
            raise CheckpointError(f"{self.file}: tensor {self.name} has numbers that are not finite; use another model")


def find_tensors(file: Path) -> list[Tensor]:
    """The tensors of a file.

    Raises:
      CheckpointError: it is corrupt.
    """
    with _open(file) as content:
        parts = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 -- it is no dict
        return [Tensor(file, name, tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()]


def has_weights(folder: Path) -> bool:
    """Whether a folder has a model's file, or the index of several."""
    return (folder / WEIGHTS).exists() or (folder / INDEX).exists()


def find_files(folder: Path) -> list[Path]:
    """A model's files: one, or those that an index names."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        raise CheckpointError(
            explain_missing(folder, WEIGHTS, f", nor {INDEX}; save_pretrained of transformers writes it")
        )
    try:
        names = set(read_json(folder / INDEX)["weight_map"].values())
        if not all(re.fullmatch(r"[\w.-]+", name) for name in names):
            raise ValueError(f"{names} are not all names of files beside it")
        return [folder / name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no index of safetensors files ({error!r:.100})"
        raise CheckpointError(f"{folder / INDEX}: {reason}; write it again") from None


def explain_missing(folder: Path, name: str, otherwise: str) -> str:
    """An error's text for a file that is not there, perhaps because a pickle is in its place."""
    if pickles := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        return (
            f"{folder}: no {name} there, and {pickles[0]} is a pickle, which can run any code when it is read; "
            "convert it where you trust it, with save_pretrained of transformers"
        )
    return f"{folder}: no {name} there{otherwise}"


def save(tensors: dict[str, np.ndarray], file: Path) -> None:
    """Write a file.

    Raises:
      OSError: it can't be written.
    """
    try:
        safetensors.numpy.save_file(tensors, file, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from None


@contextlib.contextmanager
def _open(file: Path) -> Iterator[safetensors.safe_open]:
    try:
        with safetensors.safe_open(file, framework="numpy") as tensors:
            yield tensors
    except (OSError, safetensors.SafetensorError) as error:
        if _is_lfs_pointer(file):
            raise CheckpointError(
                f"{file}: a Git LFS pointer in place of the weights; fetch them with: git lfs pull"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{file}: corrupt, or no safetensors file ({reason}); copy it again") from None


def _is_lfs_pointer(file: Path) -> bool:
    with contextlib.suppress(OSError), file.open("rb") as content:
        return content.read(40).startswith(b"version https://git-lfs.github.com/spec/")
    return False
