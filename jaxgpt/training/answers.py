"""Examples of what a policy answers, in the run folder, so that one can read what is rewarded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.inference.episodes import Transcript
from jaxgpt.runs.progress import Run
from jaxgpt.training.log import RowFile

SHOWN = 4  # of a batch


class AnswersFile:
    """An observer that writes the first episodes of some batches; on exit it tries again what a full disk did not take.

    Args:
      path: answers.jsonl; rows of steps from `start` on, left by a run that was killed, are cut off.
      start: steps done.
      every: steps between two batches.
      tokenizer: of the episodes.
    """

    def __init__(self, path: Path, start: int, every: int, tokenizer: Tokenizer):
        self._every, self._tokenizer, self._step = every, tokenizer, start
        self._rows = RowFile(path, start, every_step=False)

    def __enter__(self) -> "AnswersFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def before_step(self, run: Run) -> None:
        self._step = run.step

    def after_step(self, run: Run, metrics: dict[str, Any]) -> None:
        pass

    def watch(self, transcripts: Sequence[Transcript]) -> None:
        """For Rollouts.watch: write the first episodes of a batch, if it is due."""
        if self._step % self._every:
            return
        for each in transcripts[:SHOWN]:
            texts = each.tokens[: each.num_prompt].tolist(), each.tokens[each.num_prompt :].tolist()
            prompt, answer = map(self._tokenizer.decode, texts)
            row = {"prompt": prompt, "answer": answer, "reward": each.reward, "cut": each.cut}
            self._rows.append({"step": self._step, **row})
        self._rows.sync()
