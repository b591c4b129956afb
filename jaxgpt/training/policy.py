"""The policy of a run: it writes rollouts with the decoder of `sample`, and scores them as the training step does."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.data.base import Batch
from jaxgpt.errors import DataError, JaxgptError
from jaxgpt.inference.episodes import Transcript, play
from jaxgpt.models.base import architecture
from jaxgpt.models.lora import combine
from jaxgpt.objectives.base import Objective
from jaxgpt.objectives.policy import token_log_probs
from jaxgpt.runs.fingerprint import combined_fingerprint
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.runtime import device
from jaxgpt.runtime.distributed import all_processes
from jaxgpt.runtime.mesh import sharded_rows
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.rollouts import Rollouts
from jaxgpt.training.setup import Trainer
from jaxgpt.training.step import FrozenInputs

ROLLOUT_KEY = 2  # beside those of setup.py: what the key of a seed is for


def add_policy(
    config: TrainConfig,
    trainer: Trainer,
    objective: Objective,
    weights: WeightsRef | None,
    frozen: FrozenInputs,
    *datasets: Rollouts | None,
) -> tuple[list[Rollouts | None], str | None]:
    """Rollouts that the policy of a run plays, and a hash of the weights that --beta compares with; None: it has none.

    Args:
      weights: of --init-from.
      frozen: of the run.
      datasets: those of the run; None: there is none.
    """
    reference = digest = None
    if config.post_training.beta:
        with device.memory_errors("leave --beta out, or train adapters with --lora"):
            reference = trainer.init_state(config.run.seed, weights).model
        digest = f"{int(combined_fingerprint(reference)):08x}"
    policy = Policy(trainer, objective, frozen.base, reference)
    return [data and dataclasses.replace(data, policy=policy) for data in datasets], digest


class Policy:
    """How a run plays and scores; no weights of it but the reference's.

    Args:
      trainer: of the run.
      objective: whose advantages and weights the rows of a batch get.
      base: frozen weights under adapters; None: there are none.
      reference: the trained weights as they began, for the column `reference`; None: there is no such column.
    """

    def __init__(self, trainer: Trainer, objective: Objective, base: Any = None, reference: Any = None):
        mesh, rules = trainer.mesh, architecture(trainer.model).SHARDING_RULES
        self.reference, self._base, self._objective = reference, base, objective
        self._put, self._mesh = functools.partial(device.put, to=trainer.sharding), mesh
        rows = sharded_rows(token_log_probs, mesh, trainer.model.dtype, rules)
        self._score = jax.jit(lambda trained, base, batch: rows(combine(trained, base), batch))
        whole = NamedSharding(mesh, PartitionSpec())
        self._gather = jax.jit(lambda trained, base: combine(trained, base), out_shardings=whole)
        self._local_mesh = Mesh(np.array(mesh.local_devices), "rows")

    def write(self, data: Rollouts, model: Any, levels: Sequence[int], position: int) -> list[Transcript]:
        """Play these levels, those of the rows of this process in the batch at a position.

        Raises:
          JaxgptError: in all processes, that of a prompt or a reward in one of them.
        """
        rows, failure, transcripts = range(data.B)[data.rows], None, []
        # What is drawn and played moves between host and device at each turn; the batch that is learned, once.
        with jax.transfer_guard("allow"):
            keys = np.asarray(_row_keys(np.uint32(data.seed), np.uint32(divmod(position, 2**32)), np.uint32(rows)))
            whole, seeds = self._whole(model), [int(high) << 32 | int(low) for high, low in keys]
            sizes = data.tokenizer, data.T, data.answer_tokens
            try:
                transcripts = play(whole, data.environment, levels, seeds, *sizes, keys, mesh=self._local_mesh)
            except JaxgptError as error:
                failure = error
            if not all_processes(failure is None):  # which save the steps before together, and end
                raise failure or DataError("another process has an error in its answers; its own line says which")
        return transcripts

    def batch(self, data: Rollouts, model: Any, transcripts: Sequence[Transcript], group_size: int) -> Batch:
        """What is learned from the transcripts, in the rows of this process."""
        n, rows = len(transcripts), range(data.B)[data.rows]
        tokens, targets = np.zeros((n, data.T), np.int32), np.full((n, data.T), -1, np.int32)
        decoder = np.zeros((n, data.T), np.float32)
        for row, transcript in enumerate(transcripts):
            length, learned = len(transcript.tokens), transcript.learned[1:]
            tokens[row, :length] = transcript.tokens
            targets[row, : length - 1] = np.where(learned, transcript.tokens[1:], -1)
            decoder[row, : length - 1] = np.where(learned, transcript.log_probs[1:], 0)
        batch: Batch = {"tokens": tokens, "targets": targets}
        scored = {"old": model} | ({} if self.reference is None else {"reference": self.reference})
        inputs = self._put(batch)
        for name, weights in scored.items():
            batch[name] = jax.device_get(self._score(weights, self._base, inputs))[rows.start : rows.stop]
        facts = [
            [transcript.reward for transcript in transcripts],
            (targets >= 0).sum(1),
            [transcript.cut for transcript in transcripts],
            np.abs(batch["old"] - decoder).max(1),
        ]
        facts = _of_all_processes(np.stack(facts, axis=1)).T  # (4, B): advantages and means are of all rows
        rewards, lengths = facts[:2].reshape(2, -1, group_size)
        advantage, weight = self._objective.credit(rewards, lengths, data.max_tokens)
        solved = rewards >= data.environment.best
        columns = {
            "advantage": advantage,
            "weight": weight,
            "reward": rewards,
            "reward_error": _error(rewards),
            "solved": solved,
            "solved_groups": solved.all(1).mean(),
            "equal_groups": (np.ptp(rewards, axis=1) == 0).mean(),
            "answer_tokens": lengths,
            "cut": facts[2].reshape(rewards.shape),
            "mismatch": facts[3].max(),
        }
        for name, values in columns.items():
            column = np.broadcast_to(values, rewards.shape).reshape(-1)
            batch[name] = column[rows.start : rows.stop].astype(np.float32)
        return batch

    def _whole(self, model: Any) -> Any:
        """The model, whole on each device of this process."""
        if self._mesh.size == 1:
            return combine(model, self._base)

        def local(leaf: jax.Array) -> jax.Array:
            shards = [shard.data for shard in leaf.addressable_shards]
            sharding = NamedSharding(self._local_mesh, PartitionSpec())
            return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)

        return jax.tree.map(local, self._gather(model, self._base))


@jax.jit
def _row_keys(seed: jax.Array, position: jax.Array, rows: jax.Array) -> jax.Array:
    """A key of each row, uint32 (n, 2), of a position in two words."""
    key = jax.random.fold_in(jax.random.key(seed), ROLLOUT_KEY)
    key = jax.random.fold_in(jax.random.fold_in(key, position[0]), position[1])
    return jax.vmap(lambda row: jax.random.key_data(jax.random.fold_in(key, row)))(rows)


def _of_all_processes(rows: np.ndarray) -> np.ndarray:
    """The float64 rows of all processes, in their order."""
    if jax.process_count() == 1:
        return rows
    bits = rows.view(np.uint32)  # as float64 they would be rounded to float32
    with jax.transfer_guard("allow"):
        return multihost_utils.process_allgather(bits, tiled=True).view(np.float64)


def _error(rewards: np.ndarray) -> float:
    """The standard error of the mean of (N, G) rewards; those of a group belong together, so it is of groups' means."""
    means = rewards.mean(1) if len(rewards) > 1 else rewards[0]
    return float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else 0.0
