"""Episodes: what a model writes in an environment, as tokens of which it wrote some, with a reward."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.environments.base import Environment, Episode, end_token
from jaxgpt.errors import DataError
from jaxgpt.inference.turns import Turns
from jaxgpt.models.base import Generative


@dataclasses.dataclass
class Transcript:
    """An episode that is over, of n tokens.

    Attributes:
      tokens: int32 (n,).
      learned: bool (n,), which of them are the policy's own.
      log_probs: float32 (n,), of what the model wrote, by the decoder, in nats.
      num_prompt: how many of them are the prompt.
      reward: what it was worth.
      cut: whether an answer, or the episode, had no more room.
    """

    tokens: np.ndarray
    learned: np.ndarray
    log_probs: np.ndarray
    num_prompt: int
    reward: float
    cut: bool


def play(
    model: Generative,
    environment: Environment,
    levels: Sequence[int],
    seeds: Sequence[int],
    tokenizer: Tokenizer,
    T: int,
    answer_tokens: int,
    keys: np.ndarray,
    temperature: float = 1.0,
    mesh: Mesh | None = None,
) -> list[Transcript]:
    """Play an episode on each of B levels, all at once, each as if it were alone.

    Args:
      model: whole on each device of `mesh`.
      seeds: of what is random in each.
      T: the most tokens of an episode.
      answer_tokens: the most of an answer.
      keys, temperature, mesh: those of Turns.

    Raises:
      DataError: a prompt has no room in T.
    """
    episodes = [environment.start(level, seed) for level, seed in zip(levels, seeds, strict=True)]
    prompts = [tokenizer.encode_prompt(episode.prompt) for episode in episodes]
    for level, prompt in zip(levels, prompts, strict=True):
        if not 1 <= len(prompt) < T:
            size = f"a prompt of {len(prompt):,} tokens, and an episode of {T:,} takes 1 to {T - 1:,}"
            advice = "use a larger --T, or a model with a longer context"
            raise DataError(f"{environment.name}: level {level} has {size}; {advice}")
    end = end_token(environment, tokenizer)
    turns = Turns(model, prompts, T, end, keys, temperature, mesh)
    learned = np.zeros(turns.tokens.shape, bool)
    active, cut = np.ones(len(prompts), bool), np.zeros(len(prompts), bool)
    while active.any():
        before = turns.length.copy()
        for row, ids in enumerate(turns.answer(active, answer_tokens)):
            if active[row]:
                learned[row, before[row] : turns.length[row]] = episodes[row].learned
                said, is_cut = _answer(episodes[row], ids, end, tokenizer)
                cut[row] |= is_cut
                ids = [] if said is None else tokenizer.encode(said).tolist()
                active[row] = said is not None and turns.room(row) > len(ids)
                cut[row] |= said is not None and not active[row]
                turns.read(row, ids[: turns.room(row)])
    arrays = zip(turns.tokens, learned, turns.log_probs, turns.length, strict=True)
    return [
        Transcript(tokens[:n], own[:n], log_probs[:n], len(prompt), float(episode.reward), bool(is_cut))
        for (tokens, own, log_probs, n), prompt, episode, is_cut in zip(arrays, prompts, episodes, cut, strict=True)
    ]


def play_levels(
    model: Generative,
    environment: Environment,
    levels: Sequence[int],
    tokenizer: Tokenizer,
    answer_tokens: int,
    temperature: float,
    seed: int,
) -> list[Transcript]:
    """Play levels to measure or to watch them: with a seed, a level has the same episode in any batch."""
    seeds = [seed << 32 | level % 2**32 for level in levels]
    keys = np.array([divmod(each, 2**32) for each in seeds], np.uint32)
    T = model.config.block_size
    return play(model, environment, levels, seeds, tokenizer, T, answer_tokens, keys, temperature)


def _answer(episode: Episode, ids: list[int], end: int, tokenizer: Tokenizer) -> tuple[str | None, bool]:
    """What an episode says to an answer, and whether that was cut."""
    ended = bool(ids) and ids[-1] == end
    return episode.answer(tokenizer.decode(ids[:-1] if ended else ids), ended), not ended
