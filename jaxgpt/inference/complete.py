"""Answers to many prompts, of any lengths, in batches."""

from collections.abc import Callable, Sequence

import jax

from jaxgpt.inference.generate import stream
from jaxgpt.inference.sampling import SamplingParams, prompt_keys
from jaxgpt.models.base import Generative


def complete(
    model: Generative,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    sampling: SamplingParams,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda answers: None,
) -> list[list[int]]:
    """Continue prompts, each as if it were alone.

    Args:
      prompts: token ids; of one that is longer than block_size, its end is read.
      max_new_tokens: for each prompt; an answer that has fewer ended in the stop token.
      batch_size: prompts at a time.
      seed: of sampling; a prompt gets the same answer in any batch.
      on_progress: called with how many answers are done since the last call.

    Returns:
      The new token ids of each prompt, without the stop token.
    """
    prompts = [list(prompt[-model.config.block_size :]) for prompt in prompts]
    keys = prompt_keys(jax.random.key(seed), prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [*batch, *[batch[-1]] * (batch_size - len(batch))]  # all batches have one program
        for chunk in stream(model, [prompts[row] for row in rows], max_new_tokens, sampling, keys[rows]):
            for row, tokens in zip(batch, chunk.tokens, strict=False):
                answers[row] += tokens
        on_progress(len(batch))
    return answers
