"""What a private run has beside others: rows that are drawn, a secret, its noise, and what config.json says of them."""

import dataclasses
import hashlib
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgpt.console import say
from jaxgpt.data.examples import Examples
from jaxgpt.data.poisson import Poisson, row_units
from jaxgpt.data.units import Units, read_units
from jaxgpt.errors import CheckpointError, DataError, UsageError
from jaxgpt.files import new_file, report_write_errors
from jaxgpt.progress_bar import stage
from jaxgpt.runs.folder import SECRET, list_steps
from jaxgpt.runtime.distributed import broadcast_from_process_0
from jaxgpt.runtime.mesh import local_rows
from jaxgpt.training.accounting import EpsilonByStep, noise_multiplier_for
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.privacy_config import ROW
from jaxgpt.training.setup import Trainer

SECRET_BYTES = 32


@dataclasses.dataclass(frozen=True)
class PrivateRun:
    """The private part of a run.

    Attributes:
      record: what config.json says of it.
      secret: what rows and noise are drawn by; of --dp-seed, no secret.
      is_secret: whether it is one, and is kept in the run's folder.
    """

    record: dict[str, Any]
    secret: bytes
    is_secret: bool

    @property
    def noise(self) -> tuple[np.ndarray, float, float]:
        """The arguments of privacy.make_noise."""
        words = np.frombuffer(_derive(self.secret, "noise"), "<u4")[:2].astype(np.uint32)
        record = self.record
        return words, record["noise_multiplier"] * record["clip"], record["expected_batch"]

    @property
    def signature(self) -> dict[str, Any]:
        """What a run that resumes must keep, beside the flags and the sampling."""
        names = {"dp_steps": "steps", "dp_noise_multiplier": "noise_multiplier"}
        return {name: self.record[key] for name, key in names.items()} | {"dp_key": _derive(self.secret, "name").hex()}

    def epsilon(self) -> EpsilonByStep:
        names = ("noise_multiplier", "sampling_rate", "steps", "delta")
        return EpsilonByStep(*(self.record[name] for name in names))

    def keep_with(self, write_config: Callable[[], None], out: Path) -> None:
        """Write config.json, and then the secret into the run's folder, for its owner alone."""
        write_config()
        if not self.is_secret or jax.process_index() != 0:
            return
        with report_write_errors(out), new_file(out / SECRET) as temporary:
            temporary.touch(0o600)
            temporary.write_text(self.secret.hex() + "\n")


def make_private(config: TrainConfig, data: Any, trainer: Trainer) -> tuple[Poisson, PrivateRun]:
    """Data whose batches are drawn, and what else a private run has; it prints the promise.

    Raises:
      UsageError, DataError: the promise can't be kept with these flags and data.
      CheckpointError: the file of the secret is not one.
    """
    flags, B, steps = config.privacy, config.data.B_step, config.run.steps
    units = find_units(data, flags.dp_unit)
    what = f"rows of {data.name}" if flags.dp_unit == ROW else f"values of {flags.dp_unit} in {data.name}"
    if len(units) < B:
        raise DataError(f"--dp-epsilon: a step draws {B:,} of {len(units):,} {what}; use a smaller --B or more data")
    if flags.dp_delta * len(units) >= 1:
        most = f"1 / {len(units):,} {what}, or one of them could be published"
        raise UsageError(f"--dp-delta {flags.dp_delta:g} must be below {most}; use a smaller one")
    if "weight" in getattr(data, "table", {}) and not (np.asarray(data.table["weight"]) == 1).all():
        raise DataError(
            f"{data.name}: 'weight' has no effect in a private run, in which all rows count alike; remove it"
        )
    secret = open_secret(config)
    sharding, shares = trainer.sharding, trainer.mesh.size
    private = Poisson(data, _derive(secret, "rows")[:16], units, steps, shares, flags.dp_microbatch, B=B)
    private = dataclasses.replace(private, rows=local_rows(sharding, private.capacity))
    try:
        with stage("finding the noise of a private run"):
            multiplier = noise_multiplier_for(flags.dp_epsilon, flags.dp_delta, private.rate, steps)
    except ValueError as error:
        raise UsageError(f"--dp-epsilon {flags.dp_epsilon:g}: {error}; use a larger one, or fewer --steps") from None
    record = {"epsilon": flags.dp_epsilon, "delta": flags.dp_delta, "clip": flags.dp_clip}
    record |= {"noise_multiplier": multiplier, "unit": flags.dp_unit, "units": len(units)}
    record |= {"sampling_rate": private.rate, "expected_batch": B, "steps": steps, "is_secret": flags.dp_seed is None}
    say("privacy", f"epsilon {flags.dp_epsilon:g}, delta {flags.dp_delta:g} for each of the {len(units):,} {what}")
    say("noise", f"{multiplier:g} times the clip of {flags.dp_clip:g}; each is in a step with {private.rate:.3g}")
    for note in describe_limits(config, data):
        say("note", note)
    return private, PrivateRun(record, secret, flags.dp_seed is None)


def find_units(data: Any, unit: str) -> Units:
    """What --dp-unit protects, of some data: rows, or those with one value of a field."""
    if unit == ROW:
        return row_units(data)
    if not isinstance(data, Examples):
        raise UsageError(f"--dp-unit {unit}: {data.name} is a text, whose rows have no fields; give it examples")
    return read_units(data.name, unit, data.lines)


def describe_limits(config: TrainConfig, data: Any) -> list[str]:
    """What the promise does not say, in this run."""
    notes = []
    if not isinstance(data, Examples):
        notes.append("a row is a piece of the text: a document or a secret that fills more of them has less protection")
    if config.privacy.dp_seed is not None:
        notes.append(f"--dp-seed {config.privacy.dp_seed} is no secret: who knows it can take the noise away")
    if config.preset.init_from:
        notes.append("the weights of --init-from may know other data: the promise is for this run's alone")
    return [*notes, "the weights are private; loss, clipped and drawn, and what --val measures, are not"]


def open_secret(config: TrainConfig) -> bytes:
    """The run's secret: that in its folder, beside checkpoints, or a new one; by --dp-seed, a hash of the number.

    A run that starts over, as after its checkpoints were deleted, has a new one: of two models with the same noise, on
    other data, the difference would tell what is in one of them alone.
    """
    if config.privacy.dp_seed is not None:
        return hashlib.sha256(f"dp_seed {config.privacy.dp_seed}".encode()).digest()
    path, secret = config.run.out / SECRET, secrets.token_bytes(SECRET_BYTES)
    if not config.run.fresh and list_steps(config.run.out / "checkpoints") and path.exists():
        content = path.read_text(errors="replace").strip()
        if not re.fullmatch(f"[0-9a-f]{{{2 * SECRET_BYTES}}}", content):
            raise CheckpointError(f"{path}: is not a run's key; bring it back, or use --fresh to start over")
        secret = bytes.fromhex(content)
    pairs = (int.from_bytes(secret[i : i + 2]) for i in range(0, SECRET_BYTES, 2))
    return b"".join(broadcast_from_process_0(pair).to_bytes(2) for pair in pairs)


def _derive(secret: bytes, purpose: str) -> bytes:
    return hashlib.sha256(secret + purpose.encode()).digest()
