"""reasoning-gym: puzzles by the number, each a question, one answer, and a grader of it."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib.metadata
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from jaxgpt.environments.base import one_line, require_settings
from jaxgpt.errors import UsageError

LEVELS, ITEMS = 10_000, 20_000  # to train on, and in all
CHANGING = "its items are not the same in each process, so that no run on them could resume"
REFUSED = {
    "codeio": CHANGING,
    "composite": "it mixes others; name one of them",
    "intermediate_integration": CHANGING,
    "isomorphic_strings": CHANGING,
    "knight_swap": CHANGING,
    "list_functions": CHANGING,
    "polynomial_multiplication": CHANGING,
    "ransom_note": CHANGING,
    "simple_integration": "its grader runs any answer as a program",
    "word_ladder": CHANGING,
}
# These graders run an answer as a Python expression, or compute a power of ten that it names. They get only what is
# wholly of this form: it calls nothing, and has no large powers, which would take minutes.
HARMLESS = {
    "binary_matrix": r"[0-9\s,\[\]]*",
    "coin_flip": r"[0-9\s,./]*(e-?[0-9]{1,2})?",
    "countdown": r"(?!.*\*\*)[0-9 +*/()-]*",
    "n_queens": r"[Q_\s,'\"\[\]]*",
    "puzzle24": r"(?!.*\*\*)[0-9 +*/()-]*",
    "spiral_matrix": r"[0-9\s,\[\]-]*",
    "string_insertion": r"[A-Z\s,'\"\[\]]*",
}


def open_task(task: str, prompt: str = "question", **settings: Any) -> "Puzzles":
    """The task of that name with these settings, which are fields of its config; see Puzzles for `prompt`.

    Raises:
      UsageError: there is none of that name, its items or its grader are unfit, it refuses the settings, or
        reasoning-gym is not installed.
    """
    try:
        import reasoning_gym.factory
    except ImportError:
        raise UsageError("--env reasoning-gym needs reasoning-gym: pip install -r requirements-rl.txt") from None
    where, tasks = f"--env reasoning-gym/{task}", reasoning_gym.factory.DATASETS.keys() - REFUSED.keys()
    if task in REFUSED:
        raise UsageError(f"{where}: {REFUSED[task]}; choose another task")
    if task not in tasks:
        near = difflib.get_close_matches(task, sorted(tasks), n=3, cutoff=0.4) or ["chain_sum", "countdown", "maze"]
        raise UsageError(f"{where}: no such task among {len(tasks)}; near it: {', '.join(near)}")
    defaults = dataclasses.asdict(reasoning_gym.factory.DATASETS[task][1]())
    require_settings(where, settings, {name: defaults[name] for name in defaults if name not in ("seed", "size")})
    try:
        with silence():
            dataset = reasoning_gym.create_dataset(task, seed=0, size=ITEMS, **settings)
            first = dataset[0]
    except Exception as error:  # whatever a task has against a value
        raise UsageError(f"{where}: reasoning-gym refuses {json.dumps(settings)}: {one_line(error)}") from None
    fields = visible_fields(first)
    if missing := [field for field in str(prompt).split("+") if field not in fields]:
        raise UsageError(f"{where}: a prompt has no {missing[0]!r}; use one or more of {', '.join(fields)}")
    return Puzzles(task, dataset, prompt, settings)


class Puzzle:
    """An item of a task, as base.Episode: one answer, and what the grader says of it, from 0 to 1."""

    learned, reward = True, 0.0

    def __init__(self, prompt: str, grade: Callable[[str], float]):
        self.prompt, self._grade = prompt, grade

    def answer(self, text: str, ended: bool) -> None:
        self.reward = self._grade(text) if ended else 0.0


class Puzzles:
    """As base.Environment: level k is item k of the task; those that are not trained on are 10,000 to 19,999.

    Args:
      prompt: what is read: the question, or fields of the item's metadata, as `numbers+target`.
    """

    best, answer_tokens, max_answers, end = 1.0, None, 1, None
    num_levels = LEVELS

    def __init__(self, task: str, dataset: Any, prompt: str, settings: dict[str, Any]):
        self.name = f"reasoning-gym/{task}"
        identity = json.dumps([importlib.metadata.version("reasoning_gym"), task, prompt, settings], sort_keys=True)
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        self._dataset, self._fields = dataset, prompt.split("+")
        self._harmless = re.compile(HARMLESS.get(task, "(?s:.*)"))
        self._item = functools.lru_cache(maxsize=256)(dataset.__getitem__)  # a group of episodes has one item

    def start(self, level: int, seed: int) -> Puzzle:
        """The episode of a level; nothing in it is random."""
        item = self.item(level)
        shown = visible_fields(item)
        prompt = " ".join(str(shown[field]) for field in self._fields) + "\n"
        return Puzzle(prompt, functools.partial(self.grade, item))

    def example(self, level: int, seed: int) -> tuple[str, str]:
        """The question of a level, and a right answer."""
        if (answer := self.item(level)["answer"]) is None:
            raise UsageError(f"--env {self.name} has no right answers to learn from, only a grader")
        return self.start(level, seed).prompt, answer

    def item(self, level: int) -> dict[str, Any]:
        """The item of a level; levels from 20,000 on are 10,000 to 19,999 again.

        Raises:
          UsageError: the task can't make it with these settings.
        """
        number = level if level < LEVELS else LEVELS + (level - LEVELS) % (ITEMS - LEVELS)
        with silence():
            try:
                return self._item(number)
            except Exception as error:
                raise UsageError(
                    f"--env {self.name}: no item {number} with these settings: {one_line(error)}"
                ) from None

    def grade(self, item: dict[str, Any], answer: str) -> float:
        """What an answer is worth, from 0 to 1; what the grader can't read is worth 0."""
        if not self._harmless.fullmatch(answer):
            return 0.0
        with silence():
            try:
                return min(max(0.0, float(self._dataset.score_answer(answer, item))), 1.0)  # a NaN is 0 too
            except Exception:
                return 0.0


def visible_fields(item: dict[str, Any]) -> dict[str, Any]:
    return item["metadata"] | {"question": item["question"]}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what tasks and graders print and warn of to themselves."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
