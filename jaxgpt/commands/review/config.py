"""What is reviewed and by whom, as flags."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Literal

from jaxgpt.commands.flags import positional, require_sampling
from jaxgpt.data.records import JSON_LINES
from jaxgpt.errors import UsageError, require
from jaxgpt.serving.config import ServerConfig

NAME = re.compile(r"\w[\w .@-]{0,39}")


@dataclasses.dataclass(frozen=True)
class ReviewConfig:
    """Have people choose the better of two answers, on a web page; what they choose is training data.

    The answers are two draws of one model, or one of each of two models; the page doesn't show which is which. --out is
    --data for train as it is: with --objective dpo its pairs are learned, with --recipe finetune the chosen answers.
    The same command again continues where everybody stopped.
    """

    runs: Annotated[tuple[str, ...], *positional("RUN")]
    """One or two models: run folders, folders in Hugging Face's layout, or gpt2 to gpt2-xl (a download)."""
    prompts: Path
    """What is answered: a .jsonl, .csv or .tsv file of "prompt" or "messages", and perhaps "topic"."""
    out: Path
    """The .jsonl file that gets a line for each choice. Ties and skips go to NAME.undecided.jsonl beside it, and the
    annotators' secrets to NAME.tokens.json."""
    annotators: str = "annotator"
    """The names of those who judge, separated by commas. Each gets an address of their own."""
    per_item: int = 1
    """How many annotators judge each prompt; skips don't count."""
    max_new_tokens: int = 256
    """At most this many tokens an answer."""
    temperature: float = 0.8
    """Below 1, likely tokens become likelier still; 0, with two models, takes the likeliest always (greedy)."""
    top_k: int = 50
    """Sample among the k likeliest tokens; 0: among all."""
    top_p: float = 1.0
    """Sample among the fewest likeliest tokens that have this probability together; 1: among all."""
    seed: int = 0
    """Random seed of the answers, and of which one is on the left."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""
    server: ServerConfig = dataclasses.field(default_factory=ServerConfig)

    def __post_init__(self):
        if not 1 <= len(self.runs) <= 2:
            raise UsageError(f"{len(self.runs)} models: name one or two")
        if self.out.suffix not in JSON_LINES:
            raise UsageError(f"--out {self.out}: give the file a name that ends in .jsonl")
        if self.out.stem.endswith(".undecided"):
            raise UsageError(f"--out {self.out}: ties and skips of another --out have such a name; choose another one")
        wrong = [name for name in self.names if not NAME.fullmatch(name)]
        if wrong or len({*self.names}) < len(self.names):
            what = f"{wrong[0]!r} is no name" if wrong else "two have one name"
            raise UsageError(f"--annotators {self.annotators}: {what}; give different names, such as anna,ben")
        most = len(self.names)
        require(1 <= self.per_item <= most, "per_item", self.per_item, f"from 1 to the number of --annotators, {most}")
        require_sampling(self)
        if len(self.runs) == 1 and (self.temperature == 0 or self.top_k == 1):
            flag = "--temperature 0" if self.temperature == 0 else "--top-k 1"
            raise UsageError(f"{flag}: both answers of one model would be the same; leave it out, or name two models")

    @property
    def names(self) -> list[str]:
        """The annotators."""
        return [name.strip() for name in self.annotators.split(",")]

    @property
    def sampling(self) -> dict[str, float]:
        """How answers are sampled, as the judgments have it."""
        return {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "max_new_tokens")}
