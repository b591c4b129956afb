"""What the weights of --init-from say of each answer: a column of the data, computed once."""

import contextlib
import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxgpt.data.cache import cache_folder, make_private, write_atomically
from jaxgpt.data.examples import Examples
from jaxgpt.errors import UsageError
from jaxgpt.models.base import architecture
from jaxgpt.objectives.base import Objective
from jaxgpt.progress_bar import stage
from jaxgpt.runs.fingerprint import fingerprints_by_name
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.runtime import device
from jaxgpt.runtime.mesh import local_rows, sharded_rows

if TYPE_CHECKING:
    from jaxgpt.training.setup import Trainer

PACKAGE = Path(__file__).parent.parent
DIGEST_BYTES = 32


def add_reference(
    objective: Objective,
    trainer: "Trainer",
    weights: WeightsRef | None,
    B: int,
    *datasets: Examples | None,
    interrupted: Callable[[], bool] = lambda: False,
) -> tuple[list[Examples | None], str]:
    """Data with the column that an objective compares with, and a hash of the weights that it is by.

    The weights are read, and let go before the run has a state: no second model is ever held.

    Args:
      trainer: of the run; its mesh, and how it computes the model.
      weights: of --init-from.
      B: sequences at a time.
      datasets: those of the run; None: there is none.
      interrupted: whether to stop, since a signal has come; data lack the column then.

    Raises:
      UsageError: there are no weights.
    """
    if weights is None:
        raise UsageError(
            f"--objective {objective.name} compares with weights to begin with; name them with --init-from"
        )
    model = trainer.load(weights)
    names = repr(sorted(fingerprints_by_name(model).items()))
    digest = hashlib.sha256(names.encode()).hexdigest()
    rules = architecture(model.config).SHARDING_RULES
    measure = jax.jit(sharded_rows(objective.reference, trainer.mesh, trainer.model.dtype, rules))

    def compute(data: Examples) -> np.ndarray | None:
        parts, rows = [], local_rows(trainer.sharding, B)
        with stage(f"scoring the answers of {data.name}", data.num_rows()) as advance:
            for batch in dataclasses.replace(data, B=B).one_pass():
                if interrupted():
                    return None
                local = {name: array[rows] for name, array in batch.items()}
                parts.append(jax.device_get(measure(model, device.put(local, to=trainer.sharding))))
                advance(B)
        return np.concatenate(parts)[: data.num_rows()]

    def with_column(data: Examples) -> Examples:
        key = _key(data, digest, trainer.model.dtype)
        column = _read(key)
        if column is None and (column := compute(data)) is not None:
            _write(key, column)
        return data if column is None else dataclasses.replace(data, table=data.table | {"reference": column})

    return [data and with_column(data) for data in datasets], digest


def _key(data: Examples, weights: str, dtype: str) -> str:
    """A hash of all that decides a column: the code of the models, the data, the weights and how they are computed."""
    sources = [*sorted((PACKAGE / "models").rglob("*.py")), PACKAGE / "objectives" / "preferences.py"]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    facts = repr((code, data.fingerprint, data.T, weights, dtype, jax.__version__, jax.default_backend()))
    return f"reference-{hashlib.sha256(facts.encode()).hexdigest()}"


def _read(key: str) -> np.ndarray | None:
    with contextlib.suppress(OSError, ValueError, EOFError):  # missing or corrupt: compute it again
        folder = cache_folder() / "reference"
        make_private(folder)
        content = (folder / key).read_bytes()
        if hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]:
            return np.load(io.BytesIO(content[DIGEST_BYTES:]), allow_pickle=False)
    return None


def _write(key: str, column: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, column)
    content = file.getvalue()
    with contextlib.suppress(OSError):  # a cache that can't be written costs the next start some time, nothing else
        write_atomically(cache_folder() / "reference" / key, hashlib.sha256(content).digest() + content)
