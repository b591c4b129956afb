"""The objectives of judged answers against PyTorch: the papers' formulas, and TRL's trainers."""

import copy
import functools
import json

import jax
import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.preferences import ANSWERS
from jaxgpt.models.configs import GPT2Config
from jaxgpt.objectives import OBJECTIVES, choose_objective
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state_from, loss_and_grads, train_step
from tests.support import golden
from tests.support.parity import require_gradients_of

torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices as small as these are faster so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save_models(config, folder):
    """GPT-2 of transformers with clear preferences, and with a head of one output in place of the other; by name."""
    policy = golden.pytorch_model(config)
    judge_config = copy.deepcopy(policy.config)
    judge_config.num_labels, judge_config.pad_token_id = 1, 0
    judge = transformers.GPT2ForSequenceClassification(judge_config).eval()
    judge.transformer.load_state_dict(policy.transformer.state_dict())
    models = {"policy": policy, "reward": judge}
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return models


# ---- The formulas, in double precision, of one sequence at a time without padding


def log_probs(model, tokens):
    """The log-probability of each token but the first."""
    return model(tokens[None]).logits[0, :-1].log_softmax(-1).gather(1, tokens[1:, None])[:, 0]


def output(model, tokens):
    """What a head with one output says; it reads the last token."""
    return model(tokens[None]).logits[0, 0]


def answers(texts, row):
    return [text[row["start"] - 1 :] for text in texts]


def log_ratios(texts, row):
    return [answer.sum() - r for answer, r in zip(answers(texts, row), row["reference"].ravel(), strict=True)]


def dpo(texts, row, beta=0.1, label_smoothing=0.0):
    chosen, rejected = log_ratios(texts, row)
    right = (beta * chosen - beta * rejected).sigmoid()
    return -(1 - label_smoothing) * right.log() - label_smoothing * (1 - right).log()


def ipo(texts, row, beta=0.1):
    chosen, rejected = (r / len(a) for r, a in zip(log_ratios(texts, row), answers(texts, row), strict=True))
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def simpo(texts, row, beta=2.0, gamma=0.5):
    chosen, rejected = (answer.mean() for answer in answers(texts, row))
    return -(beta * chosen - beta * rejected - gamma).sigmoid().log()


def orpo(texts, row, beta=0.1):
    chosen, rejected = (p / (1 - p) for p in (answer.mean().exp() for answer in answers(texts, row)))
    return -texts[0].mean() - beta * (chosen / rejected).log().sigmoid().log()


def kto(texts, row, beta=0.1):
    (ratio,) = log_ratios(texts, row)
    return 1 - (beta * ratio if row["good"] else -beta * ratio).sigmoid()


def reward(rewards, row, center=0.0):
    chosen, rejected = rewards
    return -(chosen - rejected - row["margin"]).sigmoid().log() + center * (chosen + rejected) ** 2


def their_losses(formula, read, model, batch):
    """The losses of the rows of a batch."""
    for i in range(len(batch["tokens"])):
        row = {name: values[i] for name, values in batch.items()}
        texts = zip(np.atleast_2d(row["tokens"]), row["last"].ravel(), strict=True)
        yield formula([read(model, torch.tensor(tokens[: last + 1]).long()) for tokens, last in texts], row)


def pairs():
    """Answers to prompts of 4, 1 and 7 tokens; what is behind them has any value."""
    start, T = np.int32([4, 1, 7]), 13
    tokens = np.random.default_rng(0).integers(0, golden.CONFIG.vocab_size, (3, 2, T), dtype=np.int32)
    tokens = np.where(np.arange(T) < start[:, None, None], tokens[:, :1], tokens)
    batch = {"tokens": tokens, "start": start, "last": np.int32([[12, 9], [3, 12], [8, 7]])}
    numbers = {"reference": [[-44, -35], [-12, -60], [-9, -6]], "margin": [0, 1.5, 0.3], "weight": [1, 0.25, 2.5]}
    return batch | {name: np.float32(values) for name, values in numbers.items()}


def ratings():
    """The six answers, each by itself."""
    batch = pairs()
    split = {name: batch[name].reshape(6, *batch[name].shape[2:]) for name in ("tokens", "last", "reference")}
    split |= {"start": np.repeat(batch["start"], 2), "good": np.int32([1, 0, 0, 0, 1, 1])}
    return split | {"weight": np.float32([1, 2, 0.5, 1, 1, 3])}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Theirs, in double precision, and ours, of a policy and of a reward."""
    folder = tmp_path_factory.mktemp("models")
    theirs = save_models(golden.CONFIG, folder)
    return {name: (model.double(), load(resolve_weights(folder / name))) for name, model in theirs.items()}


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("formula", "settings"),
    [
        slow(dpo, {}),
        (dpo, {"beta": 0.3, "label_smoothing": 0.2}),
        slow(ipo, {"beta": 0.2}),
        slow(orpo, {"beta": 0.5}),
        slow(simpo, {"beta": 2.5, "gamma": 0.7}),
        slow(kto, {}),
        (reward, {"center": 0.1}),
    ],
)
def test_the_loss_and_every_gradient_are_those_of_the_formula(models, formula, settings, tmp_path):
    name = formula.__name__
    objective = choose_objective(OBJECTIVES[name].data, name, settings=settings)
    batch = ratings() if name == "kto" else pairs()
    theirs, ours = models["reward" if objective.labels else "policy"]
    read = output if objective.labels else log_probs
    losses = torch.stack([*their_losses(functools.partial(formula, **settings), read, theirs, batch)])
    weight = torch.tensor(batch["weight"]).double()
    wanted = (weight * losses).sum() / weight.sum()
    theirs.zero_grad()
    wanted.backward()

    metrics, grads = jax.jit(functools.partial(loss_and_grads, objective=objective))(ours, batch)
    total, count = metrics["loss"]
    np.testing.assert_allclose(total / count, wanted.item(), rtol=1e-5)
    require_gradients_of(theirs, jax.tree.map(lambda g: g / count, grads), tmp_path / "gradients", objective.labels)


# ---- TRL

STEPS, B, T, LR = 20, 4, 48, 2e-3
NEEDS_TRL = "TRL's own run needs trl"


def write_pairs(path):
    """Twenty pairs of several lengths, with how much better the chosen answers are."""
    answers = [(f" It is {2 * i + 3}." + " Yes" * (i % 4), f" no {i}" * (1 + i % 3), i % 3 / 4) for i in range(20)]
    rows = [
        {"prompt": f"{i} and {i + 3}?", "chosen": chosen, "rejected": rejected, "margin": margin}
        for i, (chosen, rejected, margin) in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def train_with_trl(name, weights, tokenizer, rows, folder):
    """The losses of TRL's steps, and the texts' tokens as it has them."""
    trl, datasets = (pytest.importorskip(package, reason=NEEDS_TRL) for package in ("trl", "datasets"))
    for file, content in tokenizer.hugging_face_files(T).items():
        (folder / file).write_text(content)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.pad_token = theirs.convert_ids_to_tokens(tokenizer.pad)
    flags = {"max_steps": STEPS, "per_device_train_batch_size": B, "train_sampling_strategy": "sequential"}
    flags |= {"learning_rate": LR, "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 0.0}
    flags |= {"max_length": T, "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "logging_steps": 1}
    flags |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    if name == "dpo":
        trainer, flags = trl.DPOTrainer, trl.DPOConfig(str(folder / "out"), beta=0.1, **flags)
    else:
        trainer = trl.RewardTrainer
        flags = trl.RewardConfig(str(folder / "out"), center_rewards_coefficient=0.01, **flags)
    data = datasets.Dataset.from_list(rows)
    run = trainer(str(weights), args=flags, train_dataset=data, processing_class=theirs)
    run.train()
    answers = [(row.get("prompt_ids", []), row[f"{side}_ids"]) for row in run.train_dataset for side in ANSWERS]
    return [row["loss"] for row in run.state.log_history if "loss" in row], [[*a, *b] for a, b in answers]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("name, settings", [("dpo", {}), ("reward", {"center": 0.01})])
def test_twenty_steps_are_those_of_trl(name, settings, tmp_path, monkeypatch):
    """Padding is not the end token, as it is by default there: its reward would be read at the token before that."""
    monkeypatch.setenv("CI", "1")  # TRL sends no telemetry then
    tokenizer, rows = open_tokenizer("bytes"), write_pairs(tmp_path / "pairs.jsonl")
    save_models(GPT2Config(vocab_size=tokenizer.vocab_size, block_size=T, n_layer=2, n_head=2, n_embd=16), tmp_path)
    weights = tmp_path / {"dpo": "policy", "reward": "reward"}[name]
    losses, texts = train_with_trl(name, weights, tokenizer, rows, tmp_path)
    assert len(losses) == STEPS and losses[-1] < losses[0] - 0.3

    data, model = (
        examples.load(str(tmp_path / "pairs.jsonl"), B, T, tokenizer=tokenizer)[0],
        load(resolve_weights(weights)),
    )
    rows = zip(data.table["tokens"][:].reshape(-1, T), data.table["last"].ravel(), strict=True)
    assert [tokens[: last + 1].tolist() for tokens, last in rows] == texts
    objective, batches = choose_objective(data.kind, name, settings=settings), [*data.one_pass()]
    if objective.reference:
        measure = jax.jit(objective.reference)
        batches = [batch | {"reference": measure(model, batch)} for batch in batches]
    flags = golden.RECIPES["chapter"] | {"lr": LR, "weight_decay": 0.0}
    tx = make_optimizer(OptimizerConfig(**flags), LR)
    step = jax.jit(functools.partial(train_step, objective=objective, tx=tx))
    state, found = init_state_from(model, tx=tx), []
    for batch in batches * (STEPS // len(batches)):
        state, metrics = step(state, batch)
        found.append(metrics["loss"])
    np.testing.assert_allclose(found, losses, atol=2e-5)
