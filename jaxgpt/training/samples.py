"""Samples: one prompt, continued after each validation, so that one can read how a run learns to write."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax

from jaxgpt.console import say
from jaxgpt.data.tokenizer import encode_prompt, gpt2
from jaxgpt.errors import UsageError
from jaxgpt.files import open_nofollow
from jaxgpt.inference.generate import generate
from jaxgpt.models.lora import combine
from jaxgpt.runs.progress import Run
from jaxgpt.runs.rows import parse_row

TOKENS, TEMPERATURE, TOP_K = 60, 0.8, 50  # as `jaxgpt sample` has them by default, but for the length


class Sampler:
    """An observer that writes a row of samples.jsonl when it is due. The same model writes the same text.

    Args:
      path: samples.jsonl; rows of later steps than `start`, left by a run that was killed, are cut off.
      start: steps done.
      prompt: not longer than the model's context.
      seed: of the sampling, which is the same after each validation.
      base: frozen weights under adapters; None: there are none.
      due: whether there is a sample after so many steps.
      pause: a context, given the metrics of the last step, for what is no part of any step's time.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        prompt: str,
        seed: int,
        base: Any,
        due: Callable[[int], bool],
        pause: Callable[[Any], AbstractContextManager],
    ):
        self._path, self._prompt, self._seed, self._base = path, prompt, seed, base
        self._due, self._pause = due, pause
        with open_nofollow(path, "a+b") as file:
            file.seek(0)
            end = 0
            for line in file:
                row = parse_row(line)
                if row is None or row["step"] > start or not line.endswith(b"\n"):
                    break
                end += len(line)
            file.truncate(end)

    def before_step(self, run: Run) -> None:
        pass

    def after_step(self, run: Run, metrics: dict[str, Any]) -> None:
        if not self._due(run.step):
            return
        with self._pause(metrics), jax.transfer_guard("allow"):
            text = self._continue_prompt(combine(run.state.model, self._base))
        row = {"step": run.step, "prompt": self._prompt, "text": text}
        try:
            with open_nofollow(self._path, "ab", buffering=0) as file:
                file.write(json.dumps(row).encode() + b"\n")
                os.fsync(file.fileno())
        except (OSError, UsageError) as error:
            say("note", f"{self._path}: {getattr(error, 'strerror', None) or error}; the sample is not in it")

    def _continue_prompt(self, model: Any) -> str:
        prompts, key = [encode_prompt(self._prompt)], jax.random.key(self._seed)
        (ids,) = generate(model, prompts, TOKENS, key, TEMPERATURE, TOP_K, stop=gpt2().eot_token)
        return gpt2().decode(ids)
