import json
import re
import shutil

import jax
import numpy as np
import pytest

import train
from jaxgpt import cli, corpus, replay
from jaxgpt.checkpoint import Checkpoints
from jaxgpt.loader import next_batch
from jaxgpt.source import last_start
from jaxgpt.tokenizer import gpt2
from jaxgpt.training import training

TINY = ["--size", "tiny", "--block-size", "32", "--T", "16"]


def run(main, *words):
    return cli.run(main, [str(word) for word in words])


def train_on(folder, *words):
    assert run(train.main, *TINY, "--data", folder / "text.txt", "--out", folder / "run", *words) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 3 steps of 2 * 16 tokens and of 3 of 16, with checkpoints in the middle and at the end."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "text.txt").write_text(" ".join(f"word{n % 7}" for n in range(82)))
    train_on(folder, "--B", 2, "--steps", 3)
    train_on(folder, "--B", 1, "--steps", 6)
    return folder / "run"


def logged(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def files(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def shown(out):
    """The place, loss and token of each line, and each sequence's text."""
    lines = re.findall(r"^ +(\d+) +(\d+\.\d+)  (.*)$", out, re.MULTILINE)
    texts = re.findall(r"^--- sequence .*\n(.*)\n\n", out, re.MULTILINE)
    return [int(n) for n, _, _ in lines], [float(x) for _, x, _ in lines], [eval(s) for *_, s in lines], texts


def test_it_shows_the_batch_and_the_losses_of_the_weights_before_the_step(trained, capfd):
    before = files(trained)
    assert run(replay.main, trained, "--step", 3) == 0
    out, notes = capfd.readouterr()
    row = logged(trained)[3]
    assert out.endswith(f"\nstep 3: loss {row['loss']:.6f}, gradient norm {row['grad_norm']:.6f}, as in the log\n")
    assert "0 steps again from its checkpoint 3\n" in notes
    assert files(trained) == before

    # The same another way: from the checkpoint, with numpy.
    flags, _ = last_start(trained)
    tokens = corpus.load(flags.data).tokens
    x, y, _ = next_batch(tokens, row["position"], 1, 16)
    with Checkpoints(trained / "checkpoints") as checkpoints:
        state = checkpoints.restore(3, training(flags).shapes())
    logits = np.asarray(state.model(x), np.float64)[0]
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(16), y[0]]
    places, printed, pieces, texts = shown(out)
    assert places == list(range(row["position"] + 1, row["position"] + 17))
    np.testing.assert_allclose(printed, losses, atol=1e-4)
    assert pieces == [gpt2().decode([token]) for token in y[0].tolist()]
    assert texts == [gpt2().decode([*x[0].tolist(), y[0, -1].item()])]


def test_it_trains_again_from_the_checkpoint_before_the_step(trained, capfd):
    assert run(replay.main, trained, "--step", 5) == 0
    out, notes = capfd.readouterr()
    assert out.endswith(f"step 5: loss {logged(trained)[5]['loss']:.6f}, gradient norm "
                        f"{logged(trained)[5]['grad_norm']:.6f}, as in the log\n")  # fmt: skip
    assert "2 steps again from its checkpoint 3\n" in notes


def test_or_from_the_beginning_with_the_batch_size_of_that_time(trained, capfd):
    assert run(replay.main, trained, "--step", 2) == 4
    assert re.search(
        r"step 0 of .*run took 32 tokens from 0 on, and the flags of its last start take 16; "
        r"give the --B, --T and --accumulate of that time\n",
        capfd.readouterr().err,
    )
    assert run(replay.main, trained, "--step", 2, "--B", 2) == 0
    out, notes = capfd.readouterr()
    assert "2 steps again from the random weights of step 0\n" in notes
    assert "--- sequence 2 of 2, loss " in out and "as in the log" in out
    places, losses, _, _ = shown(out)
    assert places == list(range(65, 97)) and abs(np.mean(losses) - logged(trained)[2]["loss"]) < 1e-4


def test_a_damaged_checkpoint_is_passed_over_and_left(trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "3" / "state")
    assert run(replay.main, folder, "--step", 3, "--B", 2) == 4  # step 3 itself had another size
    assert "checkpoints/3 is damaged" in capfd.readouterr().err
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["3", "6"]


def test_numbers_that_differ_from_the_log_are_told(trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "run")
    log = folder / "log.jsonl"
    log.write_text(log.read_text().replace(f'"loss": {logged(folder)[4]["loss"]}', '"loss": 1.5') + "no row\n")
    assert run(replay.main, folder, "--step", 4) == 0
    out, notes = capfd.readouterr()
    assert "from step 4 on the numbers are not those of the log: {'loss': " in notes
    assert re.search(r"step 4: loss \d+\.\d+, gradient norm \d+\.\d+\n\Z", out)


def test_a_step_that_was_skipped_is_shown_as_well(trained, tmp_path, capfd):
    """Its row has null for what was not finite: here for all, so that the numbers are told of, and nothing fails."""
    folder = shutil.copytree(trained, tmp_path / "run")
    log = folder / "log.jsonl"
    log.write_text(re.sub(r'("loss"|"grad_norm"): [\d.]+', r"\1: null", log.read_text()))
    assert run(replay.main, folder, "--step", 3) == 0
    assert "{'loss': None, 'grad_norm': None} there" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--step", "1"], 2, "not given: RUN"),
        (["nowhere", "--step", "1"], 4, "nowhere: no run that has begun; give the folder of a run"),
        (["RUN", "--step", "-1"], 2, "--step -1 is out of range"),
        (["RUN", "--step", "6"], 4, r"run/log.jsonl has no row of step 6; it has those of 0 to 5"),
        (["RUN", "--step", "5", "--T", "40"], 2, "--T 40 is above the model's longest context"),
    ],
)
def test_wrong_input_is_one_line(words, code, message, trained, capfd):
    assert run(replay.main, *(trained if word == "RUN" else word for word in words)) == code
    assert re.match(f"error: .*{message}", capfd.readouterr().err)


def test_another_text_is_refused(trained, tmp_path, capfd):
    shutil.copytree(trained.parent, tmp_path / "moved")
    folder = tmp_path / "moved" / "run"
    (tmp_path / "moved" / "text.txt").write_text("other words " * 90)
    config = folder / "config.json"
    config.write_text(config.read_text().replace(str(trained.parent), str(tmp_path / "moved")))
    assert run(replay.main, folder, "--step", 5) == 4
    assert re.search(r"trained on another text than .*text.txt: its hash was \w{16} and is", capfd.readouterr().err)


def test_its_tokens_losses_are_those_of_the_loss(trained):
    from jaxgpt.step import loss_fn, token_losses

    flags, _ = last_start(trained)
    model = training(flags).first_state(seed=0).model
    x, y, _ = next_batch(corpus.load(flags.data).tokens, 7, 3, 16)
    total, count = loss_fn(model, x, y)
    losses = jax.jit(token_losses)(model, x, y)
    assert losses.shape == (3, 16) and count == losses.size
    np.testing.assert_allclose(losses.sum(), total, rtol=1e-6)
