"""What a run can be told: every flag of train.py, checked before JAX is imported."""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxgpt.errors import UsageError, require
from jaxgpt.models.configs import LINEAR, SIZES, GPT2Config

# Brown et al. (2020), appendix B and table 2.1. The warm-up is build-nanogpt's 715 of 19,073 steps, as a share of the
# steps so that it fits a run of any length.
GPT3_RECIPE = {
    "schedule": "cosine",
    "warmup_ratio": 0.0375,
    "min_lr_ratio": 0.1,
    "beta2": 0.95,
    "weight_decay": 0.1,
    "decay": "matrices",
    "grad_clip": 1.0,
}
GPT3_LR = {"tiny": 6e-4, "gpt2": 6e-4, "gpt2-medium": 3e-4, "gpt2-large": 2.5e-4, "gpt2-xl": 2e-4}

SHAPE = ("block_size", "n_layer", "n_head", "n_embd")  # of a model, as far as it is a matter of flags


@dataclasses.dataclass(frozen=True)
class Preset:
    """The flags that set the defaults of others."""

    size: Literal["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "tiny"] = "gpt2"
    """Model: sets --n-layer, --n-head, --n-embd. 124M, 355M, 774M and 1,558M parameters; tiny is for tests."""
    recipe: Literal["chapter", "gpt3"] = "chapter"
    """Sets --lr to --grad-clip: chapter is PyTorch's AdamW at 3e-4; gpt3 is that paper's training."""
    init_from: str | None = None
    """Begin with these weights, which set the model's shape: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a folder."""
    predict_tokens: int = 1
    """How many of the tokens that follow each are predicted, by a head of one block for each; the loss is their sum.
    --n-layer counts these blocks, so the model is as large as without; with --init-from they are added to it."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(Preset):
    """Train GPT-2 on a text.

    The same command again goes on from the newest checkpoint in --out.
    """

    B: int = 4
    """Batch size, in sequences per step."""
    T: int = 32
    """Sequence length, in tokens; at most --block-size."""
    accumulate: int = 1
    """Batches of B that an optimizer step adds up, in the memory of one: it equals the step of a B this much larger."""
    steps: int = 50
    """Length of the run in optimizer steps, those of earlier starts included."""
    epochs: float | None = None
    """Length of the run in epochs, in place of --steps; examples of the next one fill up the last batch."""
    data: str = "auto"
    """A UTF-8 text, a .bin token file, a prepared folder (its train split), shakespeare, or python (its language
    reference); auto: one of the two. Examples: .jsonl of {"prompt", "completion"} or {"messages"}; .jsonl, .csv or
    .tsv of "text" and "label"."""
    mix: str | None = None
    """Several texts in place of --data, each with its share of the sequences: a.txt=0.7,FOLDER=0.3."""
    order: Literal["sequential", "shuffled"] = "sequential"
    """Of a text's windows of T tokens: as they stand, or in a new order in every epoch, which --seed decides."""
    val: str | None = None
    """What is held out to measure the loss on: a file like --data; a prepared folder, for its val split; or a fraction:
    the end of a text, drawn examples."""
    eval_every: int = 0
    """Steps between measurements of --val; the last step has one always. 0: only there."""
    out: Path = Path("runs/default")
    """Run folder: config.json, log.jsonl, checkpoints/."""
    save_every: int = 1000
    """Steps between checkpoints; the last step is always saved, and Ctrl-C saves too. 0: only then."""
    skip_bad_steps: int = 0
    """Pass over up to this many steps in a row whose loss or gradient is not finite; the weights stay as they were."""
    hash_every: int = 0
    """Steps between fingerprints of the whole state in log.jsonl, by which two runs can be compared; 0: none."""
    allow_other_data: bool = False
    """Go on from a checkpoint of another text: from the same position in this one."""
    deterministic: bool = False
    """On a GPU, only operations that repeat to the bit; slower. On a CPU all of them do."""
    fresh: bool = False
    """Start over: delete the checkpoints and the log of the run in --out first."""
    seed: int = 0
    """Seed of the initial weights, of the order of examples and of shuffled windows, and of dropout."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    coordinator: str | None = None
    """A run of several processes: HOST:PORT at which the first one listens. Under SLURM's srun it is known."""
    num_processes: int | None = None
    """How many processes; srun and mpirun say it too."""
    process_id: int | None = None
    """Which of them this is, from 0; srun, mpirun and an indexed job of Kubernetes say it too."""
    mesh: str = "auto"
    """Many devices: data=8, fsdp=8 (each holds a share of the state), data=2,fsdp=4; auto: data, or fsdp to fit."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32. Parameters are float32 always."""
    n_layer: int = GPT2Config.n_layer
    """Transformer blocks."""
    n_head: int = GPT2Config.n_head
    """Attention heads a block."""
    n_embd: int = GPT2Config.n_embd
    """Width of the model; a multiple of --n-head."""
    block_size: int = GPT2Config.block_size
    """The longest context the model can take, in tokens."""
    untied_head: bool = False
    """Learn an output matrix of its own; GPT-2's is its token embedding. 39 million parameters more at width 768."""
    pad_vocab_to_multiple_of: int = GPT2Config.pad_vocab_to_multiple_of
    """Rows of the token embedding: 50257, rounded up to a multiple of this; the same losses, and 128 suits a GPU."""
    remat: Literal["none", "dots", "full"] = "none"
    """Saves memory: the backward pass computes again nothing; all but the linear layers; each block."""
    dropout: float = 0.0
    """In training, the share of the embedding's and of every sublayer's output that is set to 0."""
    lora: int = 0
    """Rank of low-rank adapters, which are then trained in place of the weights of --init-from; 0: none."""
    lora_alpha: float = GPT2Config.lora_alpha
    """What the adapters add is multiplied by this, over their rank."""
    lora_on: str = GPT2Config.lora_on
    """Linear layers with adapters, with commas between: attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj."""
    profile: int = 0
    """Trace this many steps, from the fourth on, into --out/profile; 0: none."""
    lr: float = 3e-4
    """Learning rate; with a schedule, its peak."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: held, or a cosine down to --min-lr-ratio at the last step."""
    warmup_ratio: float = 0.0
    """Share of --steps, 0 to 1, in which the learning rate rises linearly to --lr."""
    min_lr_ratio: float = 0.1
    """Where the cosine ends, as a share of --lr, 0 to 1."""
    beta1: float = 0.9
    """AdamW: decay rate of the mean of the gradients."""
    beta2: float = 0.999
    """AdamW: decay rate of the mean of their squares."""
    eps: float = 1e-8
    """AdamW: added to the root of the second moment."""
    weight_decay: float = 0.01
    """AdamW: decoupled weight decay, multiplied by the learning rate."""
    decay: Literal["all", "matrices"] = "all"
    """What decays: every parameter, or only weight matrices and embeddings (no biases, no LayerNorm)."""
    grad_clip: float = 0.0
    """Largest global norm of the gradient; longer ones are scaled down to it. 0: no clipping."""

    def __post_init__(self):
        require(
            1 <= self.pad_vocab_to_multiple_of <= 2**16,
            "pad_vocab_to_multiple_of",
            self.pad_vocab_to_multiple_of,
            "from 1 to 65,536",
        )
        for name in ("B", "T", "accumulate"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(1 <= self.steps <= 10**8, "steps", self.steps, "from 1 to 100,000,000")
        require(self.epochs is None or 0 < self.epochs <= 10**6, "epochs", self.epochs, "above 0, up to 1,000,000")
        for name in ("save_every", "eval_every", "seed", "profile", "skip_bad_steps", "hash_every", "lora"):
            require(0 <= getattr(self, name) < 2**31, name, getattr(self, name), "from 0 to 2**31 - 1")
        for name in ("lr", "eps", "lora_alpha"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a finite number above 0")
        for name in ("weight_decay", "grad_clip"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "a finite number, 0 or above")
        for name in ("warmup_ratio", "min_lr_ratio"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name in ("beta1", "beta2", "dropout"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "from 0 to below 1")
        if self.eval_every and self.val is None:
            raise UsageError("--eval-every has nothing to measure; name a file or a fraction with --val")
        if unknown := set(self.lora_on.split(",")) - set(LINEAR):
            raise UsageError(f"--lora-on {self.lora_on}: no layer is called {min(unknown)!r}; use {', '.join(LINEAR)}")
        self.model()
        if self.axes is not None:
            require_mesh(self, self.axes)
        if self.T > self.block_size:
            raise UsageError(
                f"--T {self.T} is above the model's longest context: use --T {self.block_size} or a larger --block-size"
            )

    @classmethod
    def from_preset(cls, preset: Preset, weights: GPT2Config | None = None) -> "TrainConfig":
        """The defaults that go with a size, a recipe, and the shape of the weights to begin with."""
        if weights:
            shape = {name: getattr(weights, name) for name in (*SHAPE, "untied_head")}
            named = (name for name, size in SIZES.items() if size.items() <= shape.items())
            preset = dataclasses.replace(preset, size=next(named, Preset.size))
            shape["n_layer"] = weights.depth + max(1, preset.predict_tokens) - 1  # all that predict the next token stay
        else:
            shape = SIZES[preset.size] | {"predict_tokens": 1}  # the flag's own value may want another --n-layer
        recipe = {"lr": GPT3_LR[preset.size], **GPT3_RECIPE} if preset.recipe == "gpt3" else {}
        T = min(cls.T, shape.get("block_size", cls.T))
        return cls(**vars(preset) | recipe | shape, T=T)

    @property
    def axes(self) -> dict[str, int] | None:
        """--mesh as sizes by axis; None: auto."""
        if self.mesh == "auto":
            return None
        found = re.fullmatch(r"(data|fsdp)=([1-9]\d{0,5})(?:,(?!\1)(data|fsdp)=([1-9]\d{0,5}))?", self.mesh)
        if not found:
            raise UsageError(f"--mesh {self.mesh}: not a mesh; use auto, data=8, fsdp=8, data=2,fsdp=4 or the like")
        names, sizes = found.groups()[::2], found.groups()[1::2]
        return {name: int(size) for name, size in zip(names, sizes, strict=True) if name}

    @property
    def lr_depends_on_steps(self) -> bool:
        """Whether a longer run has other learning rates from its first step on."""
        return self.schedule != "constant" or self.warmup_ratio > 0

    def learning_rate(self) -> dict[str, Any]:
        """The arguments of optimizer.lr_schedule."""
        return {name: getattr(self, name) for name in ("lr", "steps", "schedule", "warmup_ratio", "min_lr_ratio")}

    def adamw(self) -> dict[str, Any]:
        """The arguments of optimizer.make_optimizer, but for the schedule."""
        names = ("beta1", "beta2", "eps", "weight_decay", "decay", "grad_clip")
        return {name: getattr(self, name) for name in names}

    def model(self, **others: Any) -> GPT2Config:
        """The model's own part of the flags; the rest is what device (dtype, ...) and data (n_labels) decide."""
        names = ("pad_vocab_to_multiple_of", "dropout", "lora", "lora_alpha", "lora_on", "predict_tokens")
        names += ("untied_head", *SHAPE)
        return GPT2Config(**{name: getattr(self, name) for name in names}, **others)


PROCESS = ("coordinator", "num_processes", "process_id")  # which process of a run this is


def require_mesh(config: TrainConfig, axes: dict[str, int]) -> None:
    """Refuse a mesh that can't share the sequences of a batch, or the width of the model, equally."""
    devices, fsdp = math.prod(axes.values()), axes.get("fsdp", 1)
    mesh = f"--mesh {mesh_flag(axes)}"
    if config.B % devices:
        raise UsageError(
            f"--B {config.B} can't be shared equally by the {devices} devices of {mesh}: use a multiple of {devices}"
        )
    if config.n_embd % fsdp:
        raise UsageError(f"--n-embd {config.n_embd} can't be shared equally by {mesh}: use one that divides it")


def mesh_flag(axes: Mapping[str, int]) -> str:
    """A mesh as --mesh has it: data=2,fsdp=4."""
    return ",".join(f"{name}={size}" for name, size in axes.items())
