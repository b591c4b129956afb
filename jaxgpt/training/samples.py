"""Samples: one prompt, continued after each validation, so that one can read how a run learns to write."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax

from jaxgpt.console import say
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import RetryableError
from jaxgpt.inference.generate import generate
from jaxgpt.models.lora import combine
from jaxgpt.runs.progress import Run
from jaxgpt.runs.rows import parse_row
from jaxgpt.runtime import device
from jaxgpt.training.log import RowFile

TOKENS, TEMPERATURE, TOP_K = 60, 0.8, 50  # as `jaxgpt sample` has them by default, but for the length


class Sampler:
    """An observer that writes a row of samples.jsonl when it is due. The same model writes the same text.

    It never ends the run: without memory for a sample, the run continues without that one. It is a context, whose end
    is the last time to try to write rows that a full disk did not take.

    Args:
      path: samples.jsonl; rows of later steps than `start`, left by a run that was killed, are cut off.
      start: steps done.
      prompt: not longer than the model's context.
      tokenizer: of the prompt and of what is written.
      seed: of the sampling, which is the same after each validation.
      base: frozen weights under adapters; None: there are none.
      due: whether there is a sample after so many steps.
      pause: a context, given the metrics of the last step, for what is no part of any step's time.
      interrupted: whether a signal has come: the checkpoint comes first, and `catch_up` writes the sample.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        prompt: str,
        tokenizer: Tokenizer,
        seed: int,
        base: Any,
        due: Callable[[int], bool],
        pause: Callable[[Any], AbstractContextManager],
        interrupted: Callable[[], bool] = lambda: False,
    ):
        self._prompt, self._tokenizer, self._seed, self._base = prompt, tokenizer, seed, base
        self._due, self._pause, self._interrupted = due, pause, interrupted
        self._rows = RowFile(path, start + 1, every_step=False)
        rows = filter(None, map(parse_row, path.read_bytes().splitlines()))
        self._lacks_first = start > 0 and all(row["step"] != start for row in rows)

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def catch_up(self, run: Run) -> None:
        """Before the first step: write the sample that is due there, if the process before was ended without it."""
        if self._lacks_first and self._due(run.step):
            self._write_sample(run, nullcontext())

    def before_step(self, run: Run) -> None:
        pass

    def after_step(self, run: Run, metrics: dict[str, Any]) -> None:
        if self._due(run.step):
            self._write_sample(run, self._pause(metrics))

    def _write_sample(self, run: Run, pause: AbstractContextManager) -> None:
        if self._interrupted():
            say("note", f"no sample after {run.step:,} steps: a signal came, and the checkpoint is saved first")
            return
        with pause:
            try:
                with jax.transfer_guard("allow"), device.memory_errors("the run continues"):
                    text = self._continue_prompt(combine(run.state.model, self._base))
            except RetryableError as error:
                say("note", f"no sample after {run.step:,} steps: {error}")
            else:
                self._rows.append({"step": run.step, "prompt": self._prompt, "text": text})
                self._rows.sync()

    def _continue_prompt(self, model: Any) -> str:
        prompts, key = [self._tokenizer.encode_prompt(self._prompt)], jax.random.key(self._seed)
        (ids,) = generate(model, prompts, TOKENS, key, TEMPERATURE, TOP_K, stop=self._tokenizer.end)
        return self._tokenizer.decode(ids)
