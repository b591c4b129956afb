"""What to play, as flags."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from jaxgpt.commands.flags import positional
from jaxgpt.errors import UsageError, require

DEFAULT_GAMES = 1000
FLAGS_OF = {  # of what the command does: the flags that change something, and how it is called
    "record": (("record", "games", "seed"), "with --record"),
    "tree": (("tree", "json"), "with --tree"),
    "game": (("side", "temperature", "seed"), "in a game with you"),
    "episode": (("level", "temperature", "answer_tokens", "seed"), "in this environment"),
}


@dataclasses.dataclass(frozen=True)
class PlayConfig:
    """Play tic-tac-toe with a model, or watch it in another environment.

    A game ends with Ctrl-D, too. It reads your squares, 1 to 9, from stdin, a line each.
    """

    env: str
    """The environment, as train's --env: tic-tac-toe, gymnasium/FrozenLake-v1, reasoning-gym/countdown, ..."""
    model: Annotated[str | None, *positional("MODEL")] = None
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    side: Literal["first", "second"] | None = None
    """Of tic-tac-toe: when you move; by default first."""
    tree: bool = False
    """Of tic-tac-toe: let the model, which always takes the likeliest answer, answer every sequence of moves."""
    json: Path | None = None
    """Write what --tree counts to this new file too."""
    level: int | None = None
    """The level to watch; by default the first one that is not trained on."""
    temperature: float | None = None
    """Of the model's answers; by default 0, the likeliest token always."""
    answer_tokens: int | None = None
    """The most tokens of an answer; by default the environment's own number, or what the context leaves."""
    record: Path | None = None
    """Without a MODEL: write examples to this new file, to train on with --data, a line of {"prompt", "completion"}
    each: right answers, or episodes of random ones, as the environment has them."""
    games: int | None = None
    """How many examples --record writes; by default 1000."""
    seed: int | None = None
    """Of all that is random; by default 0."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        usable, where = FLAGS_OF[self.what]
        for name in {name: None for names, _ in FLAGS_OF.values() for name in names}:
            if name not in usable and not any(getattr(self, name) is unset for unset in (None, False)):
                raise UsageError(f"--{name.replace('_', '-')} changes nothing {where}; leave it out")
        for name, lowest in {"level": 0, "seed": 0, "games": 1, "answer_tokens": 1}.items():
            if (value := getattr(self, name)) is not None:
                require(lowest <= value < 2**31, name, value, f"from {lowest} to 2**31 - 1")
        heat = self.temperature
        require(heat is None or 0 <= heat < float("inf"), "temperature", heat, "a finite number, 0 or above")
        if self.record and self.model is not None:
            raise UsageError(f"{self.model}: --record needs no model, an environment has examples; leave it out")
        if not self.record and self.model is None:
            raise UsageError("no MODEL; name a run folder or other weights, or write examples with --record")
        if self.tree and self.name != "tic-tac-toe":
            raise UsageError(f"--tree: --env {self.env} has too many episodes to play all; leave --tree out")
        if self.what in ("tree", "game") and self.env != self.name:
            raise UsageError(f"--env {self.env}: its settings change nothing {where}; write --env {self.name}")

    @property
    def name(self) -> str:
        return self.env.partition(":")[0]

    @property
    def what(self) -> str:
        """What to do, as FLAGS_OF names it."""
        if self.record or self.tree:
            return "record" if self.record else "tree"
        return "game" if self.name == "tic-tac-toe" else "episode"
