"""What a run is configured by: every flag of `train`, in groups by concern, checked before JAX is imported."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from jaxgpt.data.config import DataConfig, FieldNames
from jaxgpt.errors import UsageError, require
from jaxgpt.inference.answer_metrics import METRICS, SCORES
from jaxgpt.models.configs import CONFIGS, ModelConfig
from jaxgpt.models.flags import ModelFlags
from jaxgpt.runs.folder import TRACKED
from jaxgpt.runtime.config import ParallelConfig, require_divisible
from jaxgpt.training import post_training
from jaxgpt.training.bias_config import BiasConfig
from jaxgpt.training.post_training import PREFERENCES, PostTrainingConfig
from jaxgpt.training.preset import GPT3_LR, RECIPES, Preset
from jaxgpt.training.privacy_config import PrivacyConfig
from jaxgpt.training.rollout_config import RolloutConfig


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon, and the learning rate."""

    lr: float = 3e-4
    """Learning rate; with a schedule, its peak."""
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    """Learning rate after the warm-up: held; a cosine down to --min-lr-ratio at the last step; or wsd: held, and then
    a straight line down to it, in the last --cooldown-ratio of the steps."""
    warmup_ratio: float = 0.0
    """Share of --steps, 0 to 1, in which the learning rate rises linearly to --lr."""
    min_lr_ratio: float = 0.1
    """Where the cosine or the line ends, as a share of --lr, 0 to 1."""
    cooldown_ratio: float = 0.2
    """wsd: share of --steps, 0 to 1, at whose end the learning rate falls; with --warmup-ratio at most 1."""
    beta1: float = 0.9
    """AdamW: decay rate of the mean of the gradients."""
    beta2: float = 0.999
    """AdamW: decay rate of the mean of their squares."""
    eps: float = 1e-8
    """AdamW: added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled weight decay, multiplied by the learning rate."""
    decay: Literal["all", "matrices"] = "all"
    """What decays: every parameter, or only weight matrices and embeddings (no biases, no LayerNorm)."""
    grad_clip: float = 0.0
    """Largest global norm of the gradient; longer ones are scaled down to it. 0: no clipping."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon orthogonalizes the momentum of the layers' matrices, at AdamW's learning rate; the rest has AdamW."""
    muon_beta: float = 0.95
    """Muon: decay rate of the momentum."""

    def __post_init__(self):
        for name in ("lr", "eps"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a finite number above 0")
        for name in ("weight_decay", "grad_clip"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "a finite number, 0 or above")
        for name in ("warmup_ratio", "min_lr_ratio", "cooldown_ratio"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        if self.schedule == "wsd":
            most = 1 - self.warmup_ratio
            require(
                self.cooldown_ratio <= most,
                "cooldown_ratio",
                self.cooldown_ratio,
                f"at most {most:g}, what --warmup-ratio leaves",
            )
        for name in ("beta1", "beta2", "muon_beta"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "from 0 to below 1")

    @property
    def lr_depends_on_steps(self) -> bool:
        """Whether a longer run has other learning rates from its first step on."""
        return self.schedule != "constant" or self.warmup_ratio > 0


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How long it is, where it is kept, and what is checked on the way."""

    steps: int = 50
    """Length of the run in optimizer steps, those of earlier starts included."""
    epochs: float | None = None
    """Length of the run in epochs, in place of --steps; examples of the next one fill up the last batch."""
    out: Path = Path("runs/default")
    """Run folder: config.json, log.jsonl, checkpoints/."""
    save_every: int = 1000
    """Steps between checkpoints; the last step is always saved, and Ctrl-C saves too. 0: only then."""
    keep_every: int = 0
    """Steps between checkpoints that are kept for good, beside the newest three and the best, so that an erasure or a
    replay need not start over; 0: none."""
    eval_every: int = 0
    """Steps between validations on --val; the last step always has one. 0: only there."""
    skip_bad_steps: int = 0
    """Skip up to this many steps in a row whose loss or gradient is not finite; the weights stay as they were."""
    hash_every: int = 0
    """Steps between fingerprints of the state in log.jsonl, by which two runs can be compared; 0: none."""
    track: Literal["none", *TRACKED] = dataclasses.field(default="none", metadata={"observes": True})
    """Send the rows of log.jsonl to this tracker too, by a process beside the run: `jaxgpt track`."""
    probe: Literal["none", "induction"] = dataclasses.field(default="none", metadata={"observes": True})
    """What to measure inside the model: induction logs the highest induction and previous-token scores of any head."""
    probe_every: int | None = dataclasses.field(default=None, metadata={"observes": True})
    """Steps between two probes; by default 100."""
    sample_prompt: str | None = dataclasses.field(default=None, metadata={"observes": True})
    """Continue this text after each validation and after the last step, to samples.jsonl; on one device."""
    val_generate: int | None = dataclasses.field(default=None, metadata={"observes": True})
    """At each validation, write answers to so many prompts of --val, and log their scores; on one device."""
    val_metrics: str = dataclasses.field(default="exact,f1", metadata={"observes": True})
    """Those scores, with commas between: exact and f1, as SQuAD's; rouge; bleu; chrf."""
    best_by: str = dataclasses.field(default="loss", metadata={"observes": True})
    """Which checkpoint is kept as the best: that with the lowest loss, or with the highest f1, rouge_l, bleu, ..."""
    fresh: bool = False
    """Start over: delete the checkpoints, the log and the samples of the run in --out first."""
    seed: int = dataclasses.field(default=0, metadata={"may_change": False})
    """Seed of the initial weights, of the order of examples and of shuffled windows, and of dropout."""

    def __post_init__(self):
        require(1 <= self.steps <= 10**8, "steps", self.steps, "from 1 to 100,000,000")
        require(self.epochs is None or 0 < self.epochs <= 10**6, "epochs", self.epochs, "above 0, up to 1,000,000")
        every = self.probe_every
        require(every is None or 1 <= every < 2**31, "probe_every", every, "from 1 to 2**31 - 1")
        number = self.val_generate
        require(number is None or 1 <= number < 2**31, "val_generate", number, "from 1 to 2**31 - 1")
        for name in self.val_metric_names:
            require(name in METRICS, "val_metrics", name, f"one of {', '.join(METRICS)}")
        if number is None and self.val_metrics != RunConfig.val_metrics:
            raise UsageError("--val-metrics has nothing to measure; say with --val-generate how many answers")
        scores = [] if number is None else [score for name in self.val_metric_names for score in SCORES[name]]
        if self.best_by not in ("loss", *scores):
            scores = f"among {', '.join(['loss', *scores])}, which --val-generate and --val-metrics measure"
            raise UsageError(f"--best-by {self.best_by} is not {scores}")
        for name in ("save_every", "keep_every", "eval_every", "seed", "skip_bad_steps", "hash_every"):
            require(0 <= getattr(self, name) < 2**31, name, getattr(self, name), "from 0 to 2**31 - 1")

    @property
    def val_metric_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.val_metrics.split(","))


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Train a language model.

    Run the same command again to resume from the newest checkpoint in --out.
    """

    preset: Preset = dataclasses.field(default_factory=Preset)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    fields: FieldNames = dataclasses.field(default_factory=FieldNames)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    bias: BiasConfig = dataclasses.field(default_factory=BiasConfig)
    model: ModelFlags = dataclasses.field(default_factory=ModelFlags)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    post_training: PostTrainingConfig = dataclasses.field(default_factory=PostTrainingConfig)
    rollout: RolloutConfig = dataclasses.field(default_factory=RolloutConfig)
    privacy: PrivacyConfig = dataclasses.field(default_factory=PrivacyConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    def __post_init__(self):
        if self.post_training.max_drop is not None and self.data.val is None:
            raise UsageError("--max-drop has nothing to measure; name a file or a fraction with --val")
        if self.run.eval_every and self.data.val is None:
            raise UsageError("--eval-every has nothing to measure; name a file or a fraction with --val")
        if self.run.val_generate and self.data.val is None:
            raise UsageError("--val-generate has no prompts; name a file or a fraction with --val")
        self.privacy.require_flags(self)
        model = self.model_config()
        if self.data.mask_ratio != DataConfig.mask_ratio and not model.bidirectional:
            raise UsageError(f"--mask-ratio {self.data.mask_ratio:g}: --arch {model.arch} is no encoder; leave it out")
        if model.bidirectional and self.preset.objective not in ("auto", "masked", "classification", "regression"):
            trained = f"--arch {model.arch} is an encoder, for masked, classification or regression"
            raise UsageError(f"--objective {self.preset.objective}: {trained}; leave it out")
        if self.bias.bias_text is not None and model.bidirectional:
            raise UsageError(f"--bias-text: --arch {model.arch} is an encoder, which takes pairs: --bias; leave it out")
        if self.preset.size not in (Preset.size, *model.sizes):
            size = f"--size {self.preset.size}: --arch {model.arch} has no such size"
            archs = " or ".join(f"--arch {name}" for name, each in CONFIGS.items() if self.preset.size in each.sizes)
            raise UsageError(f"{size}, but {archs} has; its own are {', '.join(model.sizes) or 'none'}")
        if self.run.probe == "none" and self.run.probe_every is not None:
            raise UsageError("--probe-every has nothing to measure; name it with --probe induction")
        if self.run.probe != "none" and (model.arch != "gpt2" or model.block_size < 2):
            raise UsageError(f"--probe {self.run.probe} reads the heads of a GPT-2 with a context of 2 tokens or more")
        if self.optimizer.optimizer == "muon" and model.lora:
            raise UsageError("--optimizer muon updates whole matrices, and --lora trains none; use --optimizer adamw")
        if self.parallel.axes is not None:
            require_divisible(self.parallel.axes, self.data.B, {name: getattr(model, name) for name in model.sharded})
        if self.data.T > self.model.block_size:
            raise UsageError(
                f"--T {self.data.T} is above the model's longest context: use --T {self.model.block_size} or a larger "
                "--block-size"
            )

    @classmethod
    def of(cls, **flags: Any) -> "TrainConfig":
        """The config with these flags, by their flat names: `TrainConfig.of(B=8, lr=1e-3)`."""
        return cls().replace(**flags)

    @classmethod
    def from_preset(cls, preset: Preset, weights: ModelConfig | None = None) -> "TrainConfig":
        """The defaults that go with a size, a recipe, and the shape of the weights to begin with."""
        if weights:
            shape = {name: getattr(weights, name) for name in (*weights.shape, "untied_head")}
            size_names = (name for name, size in weights.sizes.items() if size.items() <= shape.items())
            preset = dataclasses.replace(preset, arch=weights.arch, size=next(size_names, Preset.size))
            if weights.vocab_size != ModelConfig.vocab_size:
                shape["vocab_size"] = weights.vocab_size
            shape["n_layer"] = weights.depth + max(1, preset.predict_tokens) - 1  # all that predict the next token stay
        else:
            arch = CONFIGS[preset.arch]
            shape = {name: getattr(arch, name) for name in arch.shape} | arch.sizes.get(preset.size, {})
            shape |= {"predict_tokens": 1}  # the flag's own value may want another --n-layer
        shape |= {"lora_on": getattr(CONFIGS[preset.arch], "lora_on", ModelFlags.lora_on)}
        name = preset.recipe
        if name == Preset.recipe:
            name = post_training.RECIPE_OF.get(preset.objective, name)
        recipe = ({"lr": GPT3_LR[preset.size]} if name == "gpt3" else {}) | RECIPES[name]
        if name in post_training.RECIPES:
            recipe = {"lr": post_training.LEARNING_RATES.get(preset.objective, 1e-6)} | recipe
        T = min(recipe.get("T", DataConfig.T), shape.get("block_size", ModelFlags.block_size))
        return cls().replace(**vars(preset) | recipe | shape | {"T": T})

    @property
    def groups(self) -> dict[str, Any]:
        """The groups of flags by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)}

    def flat(self) -> dict[str, Any]:
        """All flags by their flat names, as config.json has them."""
        return {name: value for group in self.groups.values() for name, value in vars(group).items()}

    def replace(self, **flags: Any) -> "TrainConfig":
        """The config with other values of these flags, by their flat names.

        Raises:
          TypeError: there is no such flag.
        """
        if unknown := flags.keys() - self.flat().keys():
            raise TypeError(f"no flag is called {', '.join(sorted(unknown))}")
        changed = {
            group: dataclasses.replace(value, **{name: flags[name] for name in vars(value) if name in flags})
            for group, value in self.groups.items()
        }
        return dataclasses.replace(self, **changed)

    def with_vocabulary(self, size: int) -> "TrainConfig":
        """The config of a model that has at least so many token ids: more where --vocab-size says so.

        Raises:
          UsageError: --vocab-size is smaller.
        """
        given = self.model.vocab_size
        if given is not None and given < size:
            raise UsageError(f"--vocab-size {given}: the tokenizer has {size} ids; use at least that, or leave it out")
        if given is None and size == ModelConfig.vocab_size:
            return self
        return self.replace(vocab_size=given or size)

    @property
    def learns_pairs(self) -> bool:
        """Whether the objective is one for judged answers, which only a name chooses."""
        return self.preset.objective in PREFERENCES

    def model_config(self, **overrides: Any) -> ModelConfig:
        """The model's config; `overrides` is what the device (dtype, attention, ...) and the data (n_labels) decide."""
        return self.model.config(self.preset.arch, self.preset.predict_tokens, **overrides)


# A run may resume with other values of the flags of these groups; a field's metadata may say otherwise.
MAY_CHANGE = {
    "preset": False,
    "data": True,
    "fields": True,
    "run": True,
    "bias": True,
    "model": False,
    "optimizer": False,
    "post_training": False,
    "rollout": False,
    "privacy": False,
    "parallel": True,
}


def fixed_flags(config: TrainConfig) -> dict[str, Any]:
    """The flags that decide a run's numbers, and must stay when it resumes."""
    flags = {}
    for name, group in config.groups.items():
        for field in dataclasses.fields(group):
            if not field.metadata.get("may_change", MAY_CHANGE[name]):
                flags[field.name] = getattr(group, field.name)
    return flags


def unobserved(config: TrainConfig) -> TrainConfig:
    """The run without what only observes it: the flags whose metadata says so have no effect on any other number."""
    fields = (field for group in config.groups.values() for field in dataclasses.fields(group))
    return config.replace(**{field.name: field.default for field in fields if field.metadata.get("observes")})
