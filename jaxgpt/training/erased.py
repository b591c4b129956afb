"""Whether a run may resume on data from which something was erased: only if its checkpoint has read none of that."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgpt.console import program
from jaxgpt.data.base import Dataset
from jaxgpt.data.examples import Examples
from jaxgpt.data.masking import Masked
from jaxgpt.data.poisson import Poisson
from jaxgpt.data.reads import Stretch, first_read, position_at
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.versions import versions
from jaxgpt.errors import CheckpointError
from jaxgpt.json_file import try_read_json

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.runs.progress import Progress


def stretches_of(data: Text | Windows | Masked, starts: Sequence[dict[str, Any]]) -> list[Stretch]:
    """The starts of a run, as config.json has them, from step 0 on, with their positions in the data."""
    stretches: list[Stretch] = []
    for start in sorted(starts, key=lambda start: start["step"]):
        position = position_at(data, stretches[-1], start["step"]) if stretches else 0
        stretches.append(Stretch(start["step"], start["B"] * start["accumulate"], start["T"], position))
    return stretches


def known_identity(saved: "Progress", data: Dataset, where: Path) -> dict[str, Any]:
    """A checkpoint's signature; with today's data, where that differs only by what it has not read.

    Args:
      saved: the checkpoint's JSON.
      data: what its run is to train on now.
      where: the checkpoint, in its run's folder.

    Raises:
      CheckpointError: it has read what was erased since, or its run is private.
    """
    corpus = saved.identity.get("corpus")
    is_private_text = isinstance(data, Poisson) and not isinstance(data.data, Examples)
    if is_private_text and corpus != data.fingerprint and corpus in versions(data.data):
        raise CheckpointError(
            f"{where}: something was erased from {data.name} since, and a private run does not resume on other "
            "data, where its noise would come again; use --fresh to start over with new noise"
        )
    if corpus == data.fingerprint or not isinstance(data, Text | Windows | Masked):
        return saved.identity
    known, config = versions(data), try_read_json(where.parents[1] / "config.json")
    starts = config.get("starts") if isinstance(config, dict) else None
    if corpus not in known or not _are_complete(starts) or any(each["fingerprint"] not in known for each in starts):
        return saved.identity  # nothing can be proved: it is another text
    stretches = stretches_of(data, [each for each in starts if each["step"] < saved.step])
    ends = [*(each.step for each in stretches[1:]), saved.step]
    for stretch, end in zip(stretches, ends, strict=False):  # before the first step there is none
        if (step := first_read(data, known[corpus], stretch, end)) is not None:
            erase = f"{program('erase')} FOLDER --delete"
            raise CheckpointError(
                f"{where} has read, in step {step:,}, what was erased from {data.name} since; {erase}, with that "
                "folder, deletes what has read it, and names the command that resumes"
            )
    return saved.identity | {"corpus": data.fingerprint}


def _are_complete(starts: Any) -> bool:
    """Whether they are a run's, from its first step on."""
    numbers = ("step", "B", "T", "accumulate")
    return (
        isinstance(starts, list)
        and all(isinstance(each, dict) and all(type(each.get(name)) is int for name in numbers) for each in starts)
        and all(isinstance(each.get("fingerprint"), str) for each in starts)
        and any(each["step"] == 0 for each in starts)
    )
