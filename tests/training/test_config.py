import math

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.training.config import OptimizerConfig, TrainConfig
from tests.support.flags import from_words


def test_the_defaults_are_the_chapter():
    config = from_words([])
    assert (config.data.B, config.data.T, config.run.steps, config.optimizer.lr) == (4, 32, 50, 3e-4)
    assert config.optimizer == OptimizerConfig(
        lr=3e-4, schedule="constant", beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01, decay="all", grad_clip=0.0
    )
    assert config.model_config() == GPT2Config(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768)


@pytest.mark.parametrize(
    "flags",
    [{name: value} for name in ("B", "T", "steps", "n_layer", "n_head", "n_embd", "block_size") for value in (0, -1)]
    + [{"pad_vocab_to_multiple_of": value} for value in (0, -1, 10**12)]
    + [{name: value} for name in ("lr", "eps") for value in (0.0, -1.0, math.nan, math.inf)]
    + [{name: value} for name in ("weight_decay", "grad_clip") for value in (-0.1, math.nan, math.inf)]
    + [{name: value} for name in ("warmup_ratio", "min_lr_ratio", "cooldown_ratio") for value in (-0.1, 1.1, math.nan)]
    + [{name: value} for name in ("beta1", "beta2", "muon_beta") for value in (-0.1, 1.0, math.nan)]
    + [{name: value} for name in ("save_every", "seed") for value in (-1, 2**31)],
    ids=str,
)
def test_a_value_out_of_range_is_named(flags):
    ((name, value),) = flags.items()
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} {value}".replace("+", r"\+")):
        TrainConfig.of(**flags)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"val_generate": 0, "val": "a"}, "--val-generate 0 is out of range"),
        ({"val_generate": 5}, "--val-generate has no prompts; name a file or a fraction with --val"),
        (
            {"val_metrics": "rouge", "val": "a"},
            "--val-metrics has nothing to measure; say with --val-generate how many",
        ),
        (
            {"val_generate": 5, "val": "a", "val_metrics": "exact,blue"},
            "--val-metrics blue is out of range: it must be",
        ),
        ({"best_by": "f1", "val": "a"}, "--best-by f1 is not among loss, which --val-generate and --val-metrics mea"),
        (
            {"val_generate": 5, "val": "a", "val_metrics": "rouge", "best_by": "rouge"},
            "--best-by rouge is not among loss, rouge_1, rouge_2, rouge_l, which",
        ),
    ],
)
def test_answers_that_can_t_be_scored_are_one_line(flags, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        TrainConfig.of(**flags)


def test_values_must_fit_each_other():
    with pytest.raises(UsageError, match="--T 1025 is above the model's longest context: use --T 1024"):
        TrainConfig.of(T=1025)

    with pytest.raises(
        UsageError, match=r"--cooldown-ratio 0.2 is out of range: it must be at most 0.1, what --warmup-ratio leaves"
    ):
        TrainConfig.of(schedule="wsd", warmup_ratio=0.9)
    with pytest.raises(UsageError, match="--lora trains none; use --optimizer adamw"):
        TrainConfig.of(optimizer="muon", lora=4, init_from="x")


def test_an_encoder_has_the_objectives_of_what_it_reads():
    for objective in ("auto", "masked", "classification", "regression"):
        TrainConfig.of(arch="bert", objective=objective)
    with pytest.raises(UsageError, match="--objective completion: --arch bert is an encoder, for masked, classif"):
        TrainConfig.of(arch="bert", objective="completion")


def test_flags_are_flat_by_name_and_grouped_by_concern():
    config = TrainConfig.of(B=8, lr=1e-3, mesh="data=8")
    assert (config.data.B, config.optimizer.lr, config.parallel.mesh) == (8, 1e-3, "data=8")
    assert config.flat()["B"] == 8 and TrainConfig.of(**config.flat()) == config
    assert len(config.flat()) == sum(len(vars(group)) for group in config.groups.values())  # no name is used twice
    with pytest.raises(TypeError, match="no flag is called Bb"):
        TrainConfig.of(Bb=3)


def test_the_help_has_a_heading_for_each_group(capsys):
    with pytest.raises(SystemExit):
        from_words(["--help"])
    printed = capsys.readouterr().out
    for group in TrainConfig().groups:
        assert f" {group} options ".replace("_", "-") in printed


def test_a_width_that_a_mesh_cannot_share():
    with pytest.raises(UsageError, match="--n-embd 30 must be divisible by the fsdp axis of --mesh data=1,fsdp=4"):
        TrainConfig.of(B=4, n_embd=30, n_head=1, mesh="data=1,fsdp=4")


def test_an_unknown_architecture_is_refused():
    assert from_words(["--arch", "gpt2"]) == from_words([])
    with pytest.raises(UsageError, match="--arch"):
        from_words(["--arch", "gpt5"])
