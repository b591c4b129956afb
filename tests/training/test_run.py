"""A run from its flags to its end: what it logs is what its parts, called by hand, give; and resumes to the bit."""

import contextlib
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, export, train, verify
from jaxgpt.data.chat import CHAT_TEMPLATE
from jaxgpt.data.corpus import load
from jaxgpt.data.loader import next_batch
from jaxgpt.objectives import choose_objective
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.huggingface import load as load_weights
from jaxgpt.runs.huggingface import load_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime import device
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.resume import load_run_config
from jaxgpt.training.run import run
from jaxgpt.training.setup import WEIGHTS_KEY, build_trainer
from jaxgpt.training.step import train_step
from tests.support.kill import numbers, saved_bits
from tests.support.losses import NEXT_TOKEN
from tests.support.models import new_state

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 20, "block_size": 32}


def test_the_loop_is_its_parts_one_after_the_other(tmp_path):
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question: " * 9)
    config = TrainConfig.of(B=2, T=16, steps=5, data=f"{tmp_path}/text.txt", out=tmp_path / "run", **SMALL)
    assert run(config, None) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]

    lr, position = config.optimizer.lr, 0
    tokens, tx = load(config.data.data).tokens, make_optimizer(config.optimizer, lr)
    key = jax.random.fold_in(jax.random.key(config.run.seed), WEIGHTS_KEY)
    state = new_state(key, config=config.model_config(dtype="float32"), tx=tx)
    step = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx))
    for row in rows:
        assert (row["position"], row["lr"]) == (position, np.float32(lr))
        x, y, position = next_batch(tokens, position, 2, 16)
        state, metrics = step(state, {"tokens": x, "targets": y})
        np.testing.assert_allclose(row["loss"], metrics["loss"], rtol=1e-6)
        np.testing.assert_allclose(row["grad_norm"], metrics["grad_norm"], rtol=1e-5)
    assert len(rows) == 5 and rows[-1]["tokens_seen"] == 5 * 2 * 16


# ---- Fine-tuning: the same loop on examples


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run to begin with, and three files of examples."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "text.txt").write_text("To be, or not to be, that is the question: " * 9)
    words = ["--data", folder / "text.txt", "--out", folder / "run", "--steps", 1, *SHAPE_FLAGS]
    assert console.run(train.main, [str(word) for word in words]) == 0
    pairs = [{"prompt": f"{n} and {n} are", "completion": f" {2 * n}."} for n in range(23)]
    chats = [
        {"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n}."}]}
        for n in range(19)
    ]
    labels = [{"text": f"{n} is {'odd' if n % 2 else 'even'}", "label": n % 2} for n in range(17)]
    judged = [{"prompt": f"{n} and {n} are", "chosen": f" {2 * n}.", "rejected": f" {n}, or so."} for n in range(19)]
    for name, records in (("pairs", pairs), ("chats", chats), ("labels", labels), ("judged", judged)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


CONSTANT = ["--schedule", "constant", "--warmup-ratio", 0]
SHAPE_FLAGS = ["--n-layer", 2, "--n-head", 2, "--n-embd", 20, "--block-size", 32, "--T", 24]


def tune(base, out, data, *words):
    words = ["--init-from", base / "run", "--data", base / f"{data}.jsonl", "--out", out, "--B", 3, "--T", 24, *words]
    return console.run(train.main, [str(word) for word in words])


@contextlib.contextmanager
def seen(monkeypatch):
    """The batches that go to the device, as bytes."""
    batches, put = [], device.put
    with monkeypatch.context() as patch:

        def put_and_note(batch, to):
            batches.append(b"".join(map(bytes, batch.values())))
            return put(batch, to=to)

        patch.setattr(device, "put", put_and_note)
        yield batches


@pytest.mark.parametrize(
    "data, stops, flags",
    [
        ("pairs", [4], ["--dropout", 0.1]),
        ("labels", [7], ["--lora", 2]),
        ("judged", [4], ["--objective", "dpo", "--accumulate", 1, "--lora", 2, "--lr", 1e-3, *CONSTANT]),
        pytest.param("judged", [5], ["--objective", "reward", "--accumulate", 2, *CONSTANT], marks=pytest.mark.slow),
        pytest.param(
            *("chats", [5], ["--lora", 2, "--lora-on", "attn.c_attn,mlp.c_fc", "--dropout", 0.2, "--accumulate", 2]),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_fine_tune_goes_on_to_the_bit_wherever_it_was_stopped(base, tmp_path, monkeypatch, data, stops, flags):
    """9 steps of 3 are more than an epoch; the batches, their order, the rows and every saved bit are the same."""
    with seen(monkeypatch) as whole:
        assert tune(base, tmp_path / "whole", data, *flags, "--steps", 9) == 0
    is_chat = json.loads((tmp_path / "whole" / "config.json").read_text())["is_chat"]
    assert is_chat == resolve_weights(tmp_path / "whole").is_chat == (data == "chats")
    with seen(monkeypatch) as parts:
        for steps in (*stops, 9):
            assert tune(base, tmp_path / "parts", data, *flags, "--steps", steps) == 0
    assert parts[-9:] == whole[-9:] and len(set(whole[-9:])) == 9  # without those of a reference
    if data == "judged":
        load_weights(resolve_weights(tmp_path / "parts"))  # its config.json and its checkpoints agree on the head
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert saved_bits(tmp_path / "parts", 9) == saved_bits(tmp_path / "whole", 9)


@pytest.mark.slow
def test_a_run_whose_chosen_answers_lose_too_much_ends_and_does_not_call_itself_done(base, tmp_path, capsys):
    flags = ["--objective", "dpo", "--accumulate", 1, "--lr", 0.3, *CONSTANT, "--val", 0.2, "--steps", 4]
    for _ in range(2):
        assert tune(base, tmp_path / "run", "judged", *flags, "--max-drop", 0.5) == 6
        assert "judged.jsonl have lost" in capsys.readouterr().err
    rows = numbers(tmp_path / "run")
    assert tune(base, tmp_path / "run", "judged", *flags) == 0  # it is saved, and may go on without the flag
    assert numbers(tmp_path / "run") == rows and saved_bits(tmp_path / "run", 4)


@pytest.mark.slow
def test_an_encoder_resumes_with_the_masks_that_it_would_have_had(base, tmp_path, monkeypatch, capsys):
    """9 steps are more than an epoch of 387 bytes; another --mask-ratio is another run."""

    def pretrain(out, *words):
        words = ["--arch", "bert", *SHAPE_FLAGS, "--tokenizer", "bytes", "--dropout", 0.1, "--val", 0.1, *words]
        words = ["--data", base / "text.txt", "--out", tmp_path / out, "--B", 2, "--accumulate", 2, *words]
        return console.run(train.main, [str(word) for word in words])

    with seen(monkeypatch) as whole:
        assert pretrain("whole", "--steps", 9) == 0
    with seen(monkeypatch) as parts:
        assert [pretrain("parts", "--steps", steps) for steps in (5, 9)] == [0, 0]
    batches = [batch for batch in parts if len(batch) == len(whole[0])]
    assert [batch for batch in whole if len(batch) == len(whole[0])] == batches and len({*batches}) == 9
    assert numbers(tmp_path / "parts")[-1] == numbers(tmp_path / "whole")[-1]
    assert saved_bits(tmp_path / "parts", 9) == saved_bits(tmp_path / "whole", 9)
    out, _ = capsys.readouterr()
    assert "mlm loss" in out and "bits per masked token" in out and "bits per byte" not in out
    words = ["--data", base / "text.txt", "--T", 24, "--max-windows", 2, "--json", tmp_path / "new.json"]
    assert console.run(evaluate.main, [str(word) for word in (tmp_path / "whole", *words)]) == 0
    found = json.loads((tmp_path / "new.json").read_text())
    assert (found["measure"], found["n"]) == ("pseudo-log-likelihood", 22 + 387 % 24 - 2)  # the last window is shorter
    assert found["bits_per_masked_token"] == pytest.approx(found["loss"] / np.log(2))
    assert pretrain("parts", "--steps", 10, "--mask-ratio", 0.3) == 4
    assert "mask_ratio 0.15 there and 0.3 here" in capsys.readouterr().err


def test_adapters_are_saved_alone_and_merged_on_the_way_out(base, tmp_path, capsys):
    assert tune(base, tmp_path / "run", "chats", "--lora", 2, "--steps", 3, "--lr", 0.1) == 0
    printed = capsys.readouterr().out
    trained = 2 * 2 * (20 + 60)  # layers, rank, in and out
    assert f"; {trained} of them are trained: rank 2 on attn.c_attn\n" in printed
    arrays = saved_bits(tmp_path / "run", 3)
    assert all("lora_" in name or "count" in name or "step" in name for name in arrays)
    assert console.run(export.main, [str(tmp_path / "run"), str(tmp_path / "hf")]) == 0

    tokenizer = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    assert tokenizer["chat_template"] == CHAT_TEMPLATE

    config, _ = load_run_config(tmp_path / "run")
    trainer = build_trainer(config, objective=choose_objective("completions"))
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        state = checkpoints.restore(3, trainer.shapes)
    base_model, exported = load_weights(resolve_weights(base / "run")), load_hf(tmp_path / "hf")
    a, b = (getattr(state.model.h.attn.c_attn, name)[...] for name in ("lora_a", "lora_b"))
    by_hand = base_model.h.attn.c_attn.kernel[...] + 16 / 2 * np.einsum("lir,lro->lio", a, b)
    assert abs(np.asarray(by_hand - base_model.h.attn.c_attn.kernel[...])).max() > 1e-3  # they do something
    np.testing.assert_allclose(exported.h.attn.c_attn.kernel[...], by_hand, atol=1e-6)
    for path, leaf in jax.tree_util.tree_leaves_with_path(base_model):
        if "c_attn" not in jax.tree_util.keystr(path) or "bias" in jax.tree_util.keystr(path):
            found = dict(jax.tree_util.tree_leaves_with_path(exported))[path]
            assert np.asarray(found).tobytes() == np.asarray(leaf).tobytes()


@pytest.mark.slow
def test_adapters_are_not_taken_to_other_weights(base, tmp_path, capsys, monkeypatch):
    shutil.copytree(base / "run", tmp_path / "weights")
    words = ["--data", base / "pairs.jsonl", "--init-from", tmp_path / "weights", "--lora", 2, "--T", 24]
    words = [str(word) for word in [*words, "--out", tmp_path / "run"]]
    assert console.run(train.main, [*words, "--steps", "1"]) == 0
    text = ["--data", str(base / "text.txt"), "--out", str(tmp_path / "weights"), *map(str, SHAPE_FLAGS)]
    assert console.run(train.main, [*text, "--steps", "2"]) == 0
    capsys.readouterr()
    assert console.run(train.main, [*words, "--steps", "2"]) == 4
    assert "has adapters for other weights" in capsys.readouterr().err
    for command in ([export.main, tmp_path / "run", tmp_path / "hf"], [verify.main, tmp_path / "run"]):
        assert console.run(command[0], list(map(str, command[1:]))) == 4
        assert "and the adapters were trained on" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "weights")
    assert console.run(export.main, [str(tmp_path / "run"), str(tmp_path / "hf")]) == 4
    assert f"{tmp_path}/run has adapters for weights that can't be loaded (" in capsys.readouterr().err
    words[words.index("--init-from") + 1] = str(base / "run" / "checkpoints" / "1")  # the same weights elsewhere
    assert console.run(train.main, [*words, "--steps", "2"]) == 0
    monkeypatch.chdir(tmp_path)
    assert console.run(export.main, ["run", "hf"]) == 0


@pytest.mark.slow
def test_epochs_are_a_length(base, tmp_path, capsys):
    assert tune(base, tmp_path / "run", "labels", "--epochs", 1.5) == 0
    printed = capsys.readouterr().out
    assert "labels.jsonl: 17 examples of 2 labels, 5.666666667 batches per epoch of 3*24\n" in printed
    assert f"{tmp_path}/run: 9 steps from the weights of {base}/run\n" in printed  # 8.5 batches
    assert "--epochs 3 " in printed.split("resume ")[1] and "--steps" not in printed
    assert tune(base, tmp_path / "run", "labels", "--epochs", 3, "--B", 5) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert (len(rows), rows[-1]["tokens_seen"]) == (14, (9 * 3 + 5 * 5) * 24)  # 52 examples, where three epochs have 51


@pytest.mark.parametrize(
    "flags, code, error",
    [
        (["--T", 12], 4, "T 24 there and 12 here"),
        (["--lora", 2], 4, "lora 0 there and 2 here"),
        (["--dropout", 0.5], 4, "dropout 0.0 there and 0.5 here"),
        (["--lora-on", "attn.c_atn"], 2, "--lora-on attn.c_atn: no layer is called 'attn.c_atn'; use attn.c_attn,"),
        (["--eval-every", 3], 2, "--eval-every has nothing to measure"),
        (["--val", 0.94], 3, "leaves no example of"),
        (["--val", ""], 2, "--val is empty"),
        (["--epochs", 0], 2, "--epochs 0.0 is out of range"),
        (["--val", 0.5, "--max-drop", 1], 2, "--max-drop 1: --objective classification has no reference to measure"),
    ],
)
def test_what_would_be_another_run_is_refused(base, tmp_path, capsys, flags, code, error):
    if code == 4:
        assert tune(base, tmp_path / "run", "labels", "--steps", 1) == 0
    assert tune(base, tmp_path / "run", "labels", "--steps", 2, *flags) == code
    assert error in capsys.readouterr().err


def test_a_drop_is_that_of_good_answers(base, tmp_path, capsys):
    (base / "bad.jsonl").write_text('{"prompt": "a", "completion": "b", "good": false}\n' * 3)
    words = ["--objective", "kto", "--val", base / "bad.jsonl", "--max-drop", 1]
    assert tune(base, tmp_path / "run", "bad", *words) == 2
    assert "--max-drop 1: --val has no good answer" in capsys.readouterr().err
