"""Losses, advantages and gradients of policy gradients against TRL's trainers, on the same tokens and rewards."""

import functools

import jax
import numpy as np
import pytest

from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.models.configs import GPT2Config
from jaxgpt.objectives import choose_objective
from jaxgpt.objectives.policy import CREDITS, LOGGED, token_log_probs
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.step import loss_and_grads
from tests.support import golden
from tests.support.parity import require_gradients_of

torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
trl = pytest.importorskip("trl", reason="TRL's own loss needs trl")

PROMPTS, G, T, MAX_TOKENS = ["one?", "two?"], 3, 12, 7
ANSWERS = ["a", "bcd", "efghijk", "lmn", "op", "qrstuv"]  # of two groups, whose rewards differ
REWARDS = np.array([[0.1, 0.7, 0.1], [-3.0, 0.5, 2.0]])
SETTINGS = {
    "grpo": {"loss_type": "grpo", "scale_rewards": "group", "beta": 0.04, "use_bias_correction_kl": False},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo", "scale_rewards": "group", "epsilon_high": 0.28},
    "rloo": {"beta": 0.0},
}


def trainer_of(name, weights, folder, tokenizer):
    """TRL's trainer, with our texts and rewards in place of its own generation."""
    import datasets

    for file, content in tokenizer.hugging_face_files(T).items():
        (folder / file).write_text(content)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.pad_token = theirs.convert_ids_to_tokens(tokenizer.pad)
    make, config = (trl.RLOOTrainer, trl.RLOOConfig) if name == "rloo" else (trl.GRPOTrainer, trl.GRPOConfig)
    flags = {"per_device_train_batch_size": 2 * G, "num_generations": G, "max_completion_length": MAX_TOKENS}
    flags |= {"bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": "none"}
    trainer = make(
        model=transformers.GPT2LMHeadModel.from_pretrained(weights),
        reward_funcs=lambda completions, **_: REWARDS.ravel().tolist(),
        args=config(str(folder / "out"), **flags, **SETTINGS[name]),
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=theirs,
    )
    ids = [tokenizer.encode(answer).tolist() for answer in ANSWERS]
    trainer._generate_single_turn = lambda *_: ids if name == "rloo" else (ids, None)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def our_batch(tokenizer):
    tokens, targets = np.zeros((2 * G, T), np.int32), np.full((2 * G, T), -1, np.int32)
    for row, answer in enumerate(ANSWERS):
        prompt, answer = (tokenizer.encode(text).tolist() for text in (PROMPTS[row // G], answer))
        text, n = prompt + answer, len(prompt)
        tokens[row, : len(text)], targets[row, n - 1 : len(text) - 1] = text, answer
    logged = dict.fromkeys(LOGGED, np.zeros(2 * G, np.float32))
    return {"tokens": tokens, "targets": targets} | logged


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_is_that_of_trl(name, tmp_path, monkeypatch):
    """rloo at the policy that wrote the answers: away from it, TRL clips the ratio of a whole answer, not a token's."""
    monkeypatch.setenv("CI", "1")  # TRL sends no telemetry then
    tokenizer = open_tokenizer("bytes")
    config = GPT2Config(vocab_size=tokenizer.vocab_size, block_size=T, n_layer=2, n_head=2, n_embd=16)
    golden.pytorch_model(config).save_pretrained(tmp_path / "policy")
    trainer = trainer_of(name, tmp_path / "policy", tmp_path, tokenizer)
    inputs = trainer._generate_and_score_completions([{"prompt": p} for p in PROMPTS for _ in range(G)])

    batch, model = our_batch(tokenizer), load(resolve_weights(tmp_path / "policy"))
    learned = batch["targets"] >= 0
    advantage, weight = CREDITS[name](REWARDS, learned.sum(1).reshape(2, G), MAX_TOKENS)
    np.testing.assert_allclose(advantage.ravel(), inputs["advantages"].numpy(), atol=1e-6)
    values = np.asarray(jax.jit(token_log_probs)(model, batch))
    rng = np.random.default_rng(0)
    old, reference = (values + (name != "rloo") * rng.uniform(-0.5, 0.5, values.shape) for _ in range(2))
    batch |= {"old": old, "advantage": advantage.ravel(), "weight": weight.ravel()}
    batch |= {"reference": reference} if name == "grpo" else {}
    batch = {key: np.float32(value) if value.dtype == float else value for key, value in batch.items()}
    first, width = len(PROMPTS[0]) - 1, inputs["completion_ids"].shape[1]
    if name != "rloo":
        inputs["old_per_token_logps"] = torch.tensor(old[:, first : first + width]).float()
        inputs["ref_per_token_logps"] = torch.tensor(reference[:, first : first + width]).float()
    wanted = trainer.compute_loss(trainer.model, inputs)
    wanted.backward()

    settings = {"beta": 0.04} if name == "grpo" else {}
    objective = choose_objective("rollouts", name, settings=settings)
    metrics, grads = jax.jit(functools.partial(loss_and_grads, objective=objective))(model, batch)
    total, count = metrics["loss"]
    if name == "rloo":  # its ratio of an answer is 1, and so is each of ours, once a token
        total = -(advantage * weight).sum()
    np.testing.assert_allclose(total / count, wanted.item(), rtol=1e-5, atol=1e-6)
    require_gradients_of(trainer.model, jax.tree.map(lambda g: g / count, grads), tmp_path / "gradients")
