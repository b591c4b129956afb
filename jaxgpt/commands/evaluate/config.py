"""What is measured of which model, as flags."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jaxgpt.commands.flags import positional
from jaxgpt.data.config import FieldNames
from jaxgpt.errors import UsageError, require
from jaxgpt.inference.answer_metrics import METRICS

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Model

Load = Callable[..., "Model"]  # (T=None) to the model, read once, for sequences of T tokens; None: of its context
Measure = Callable[[Load], dict[str, Any]]  # loads the model, measures it, prints the results and returns them

# Flags of what to measure; at least one is required.
MEASUREMENTS = ("data", "generate", "pairs", "choices", "canaries", "tasks", "env", "bias", "bias_text")
OPTIONS = {
    "T": ("data", "pairs"),
    "max_windows": ("data",),
    "reference": ("pairs",),
    "reward": ("data", "pairs"),
    "limit": ("generate", "choices", "tasks"),
    "num_fewshot": ("tasks",),
    "include_path": ("tasks",),
    "swaps": ("bias_text",),
    **dict.fromkeys(("levels", "answer_tokens"), ("env",)),
    **dict.fromkeys(("temperature", "seed"), ("generate", "env")),
    **dict.fromkeys(("metrics", "max_new_tokens", "top_k", "top_p", "answers"), ("generate",)),
}
DEFAULT_LEVELS = 100


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Measure how good a model is: its loss on a text, multiple choice, memory, EleutherAI's harness, rewards, bias.

    For a model of labels, --data alone gives accuracy, F1, Matthews correlation and the confusion matrix; for a model
    of numbers (--score-field) the squared error, Pearson's and Spearman's correlation; for an encoder its bits per
    masked token, each token of a window hidden in turn (pseudo-log-likelihood); for a reward model the
    rewards of texts.
    """

    model: Annotated[str | None, *positional("MODEL")] = None
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    data: str | None = None
    """A text, .jsonl of {"text"}, a .bin token file, a prepared folder (its val split) or shakespeare; or a .jsonl,
    .csv or .tsv of examples, of which only the completions are measured. For a model of labels: one of "text" (or
    "text_a" and "text_b") and "label"; for a reward model: one of "prompt" and "completion", "messages" or "text"."""
    generate: str | None = None
    """Prompts with references, for which answers are written: examples as those of --data, a record of "prompt" and
    "references", a list of texts, or SQuAD's .json. Of a conversation the last answer is the reference."""
    metrics: tuple[Literal[*METRICS], ...] | None = None
    """Of the answers of --generate: exact and f1, as SQuAD's; rouge; bleu; chrf. By default exact f1."""
    max_new_tokens: int | None = None
    """The most tokens of an answer of --generate; by default 128."""
    answers: Path | None = None
    """Write the answers of --generate to this new file, a JSON line each, with their references and scores."""
    pairs: str | None = None
    """Pairs of answers, "prompt", "chosen" and "rejected": how often the chosen one is the likelier, or for a reward
    model the better, overall and by "group"; or rated ones, "prompt", "completion" and "good"."""
    reference: str | None = None
    """Weights that training began with: --pairs are judged by the log-ratio to them, dpo's implicit reward, too."""
    reward: str | None = None
    """A reward model, which judges the texts of --data and --pairs too; MODEL may then be left out."""
    fields: FieldNames = dataclasses.field(default_factory=FieldNames)
    T: int | None = None
    """Tokens of a window of --data, each of which sees none before the window, or the most of a prompt and its answer;
    by default the model's context, or a reward model's own --T."""
    max_windows: int | None = None
    """An encoder: at most so many windows of --data, evenly spaced; by default 64."""
    choices: Path | None = None
    """A JSONL file; a line is {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}."""
    canaries: Path | None = None
    """A prepared folder: how well the model remembers its canaries, made-up secrets that were planted in the text."""
    tasks: str | None = None
    """Tasks of the harness, by name, with commas between: hellaswag,lambada_openai. Their data is a download."""
    limit: int | None = None
    """Only the first so many items of --generate, of --choices and of each of --tasks."""
    num_fewshot: int | None = None
    """How many solved examples --tasks puts in front of each item; by default the task's own number."""
    include_path: Path | None = None
    """A folder of your own tasks for --tasks, YAML files of the harness."""
    env: str | None = None
    """An environment, as train's --env: the mean reward, and the share of episodes that could not be better."""
    bias: Path | None = None
    """Pairs of sentences, "more", "less" and perhaps "group", or CrowS-Pairs's or StereoSet's file: how often the
    first, which says what a stereotype has, is the likelier."""
    bias_text: Path | None = None
    """A text, or .jsonl of {"text"}: how much less likely its documents become when words are swapped in them."""
    swaps: str | None = None
    """The words that --bias-text swaps: a file in the format of jaxgpt/data/word_swaps.txt, the list by default."""
    levels: int | None = None
    """How many levels of --env, an episode on each; by default 100. They begin where those of training end."""
    temperature: float | None = None
    """Of the answers of --generate and in --env; by default 0, always the likeliest token."""
    top_k: int | None = None
    """--generate with a temperature: sample among the k likeliest tokens; by default among all."""
    top_p: float | None = None
    """And among the fewest likeliest tokens that have this probability together; by default 1, all."""
    answer_tokens: int | None = None
    """The most tokens of an answer in --env; by default the environment's own number, or what the context leaves."""
    seed: int | None = None
    """Of what is random in --env, and of answers; by default 0."""
    batch_size: int = 8
    """Sequences, or episodes, at a time."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""
    json: Path | None = None
    """Write the results to this new file too, in full."""

    def __post_init__(self):
        if all(getattr(self, name) is None for name in MEASUREMENTS):
            *flags, last = (f"--{name.replace('_', '-')}" for name in MEASUREMENTS)
            flags = f"{', '.join(flags)} or {last}"
            raise UsageError(f"nothing to measure: give {flags}; --help explains them")
        needing = ("generate", "choices", "canaries", "tasks", "env", "bias", "bias_text", "reference")
        needing = [name for name in needing if getattr(self, name) is not None]
        if self.model is None and (needing or self.reward is None):
            flag = f"--{needing[0].replace('_', '-')}: " if needing else ""
            raise UsageError(f"{flag}no MODEL; name a run folder or other weights, which --help lists")
        if self.fields.words and self.data is None and self.pairs is None and self.generate is None:
            named = "--data, --generate or --pairs"
            raise UsageError(f"{self.fields}: they are names in a file of examples; name it with {named}")
        positive = ("T", "max_windows", "limit", "levels", "answer_tokens", "batch_size", "max_new_tokens", "top_k")
        for name, lowest in (dict.fromkeys(positive, 1) | {"num_fewshot": 0, "seed": 0}).items():
            if (value := getattr(self, name)) is not None:
                require(lowest <= value < 2**31, name, value, f"from {lowest} to 2**31 - 1")
        heat = self.temperature
        require(heat is None or 0 <= heat < float("inf"), "temperature", heat, "a finite number, 0 or above")
        require(self.top_p is None or 0 < self.top_p <= 1, "top_p", self.top_p, "above 0, and at most 1")
        for name, of in OPTIONS.items():
            if getattr(self, name) is not None and all(getattr(self, each) is None for each in of):
                flag, *required = (f"--{each.replace('_', '-')}" for each in (name, *of))
                raise UsageError(f"{flag} changes nothing without {' or '.join(required)}; leave it out")
        if self.answers is not None and self.answers == self.json:
            raise UsageError(f"--answers {self.answers} is --json, too; choose another file")
        if self.tasks is not None and not all(self.task_names):
            raise UsageError(f"--tasks {self.tasks!r}: a name is empty; give names with commas between them")
        if self.include_path is not None and not self.include_path.is_dir():
            raise UsageError(f"--include-path {self.include_path}: no such folder; give a folder of YAML files")

    @property
    def task_names(self) -> list[str]:
        return [name.strip() for name in (self.tasks or "").split(",")]

    def choose_T(self, context: int, default: int | None = None) -> int:
        """Tokens of a sequence: --T, by default as many, or the model's context."""
        if (self.T or 1) > context:
            raise UsageError(f"--T {self.T} is above the model's context of {context:,} tokens; use a smaller one")
        return self.T or min(default or context, context)

    @property
    def of_judge(self) -> "EvaluateConfig":
        """What --reward measures, as if it were the MODEL."""
        names = ("data", "pairs", "fields", "T", "batch_size", "device", "dtype")
        return EvaluateConfig(self.reward, **{name: getattr(self, name) for name in names})
