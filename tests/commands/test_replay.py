import json
import re
import shutil

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import replay, train
from jaxgpt.data import corpus
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.loader import next_batch
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.huggingface import load, load_hf, save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.resume import load_run_config
from jaxgpt.training.setup import build_trainer
from tests.support.models import forward, spread_model

TINY = ["--n-layer", 2, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--T", 16]


def run(main, *words):
    return console.run(main, [str(word) for word in words])


def train_on(folder, *words):
    assert run(train.main, *TINY, "--data", folder / "text.txt", "--out", folder / "run", *words) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 3 steps of 2 * 16 tokens, then of 3 of 16, with checkpoints 3 and 6."""
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
    lines = re.findall(r"^ +(\d+) +(\d+\.\d+) +(\d+)  (.*)$", out, re.MULTILINE)
    texts = re.findall(r"^\| (.*)$", out, re.MULTILINE)
    assert all(encoding().decode([int(token)]) == eval(text) for *_, token, text in lines)
    return (
        [int(place) for place, *_ in lines],
        [float(loss) for _, loss, *_ in lines],
        [int(t) for *_, t, _ in lines],
        texts,
    )


def test_it_shows_the_batch_and_the_losses_of_the_weights_before_the_step(trained, capfd):
    before = files(trained)
    assert run(replay.main, trained, "--step", 3, "--show-text") == 0
    out, notes = capfd.readouterr()
    row = logged(trained)[3]
    assert out.endswith(f"\nstep 3: loss {row['loss']:.6f}, gradient norm {row['grad_norm']:.6f}, as in the log\n")
    assert "trained again from step 3 on, its checkpoint 3\n" in notes
    assert files(trained) == before

    # The same another way: from the checkpoint, with numpy.
    flags, _ = load_run_config(trained)
    tokens = corpus.load(flags.data.data).tokens
    x, y, _ = next_batch(tokens, row["position"], 1, 16)
    with Checkpoints(trained / "checkpoints") as checkpoints:
        state = checkpoints.restore(3, build_trainer(flags).shapes)
    logits = np.asarray(state.model(x), np.float64)[0]
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(16), y[0]]
    places, printed, pieces, texts = shown(out)
    assert places == list(range(row["position"] + 1, row["position"] + 17))
    np.testing.assert_allclose(printed, losses, atol=1e-4)
    assert pieces == y[0].tolist()
    assert texts == [encoding().decode([*x[0].tolist(), y[0, -1].item()])]


def test_it_trains_again_from_the_checkpoint_before_the_step(trained, capfd):
    assert run(replay.main, trained, "--step", 5) == 0
    out, notes = capfd.readouterr()
    assert out.endswith(f"step 5: loss {logged(trained)[5]['loss']:.6f}, gradient norm "
                        f"{logged(trained)[5]['grad_norm']:.6f}, as in the log\n")  # fmt: skip
    assert "trained again from step 3 on, its checkpoint 3\n" in notes


def test_no_text_is_shown_unless_it_is_asked_for(trained, capfd):
    assert run(replay.main, trained, "--step", 5, "--show-text") == 0
    *title, sequence, _ = capfd.readouterr().out.splitlines()[:3]
    assert sequence.startswith("| ")
    assert run(replay.main, trained, "--step", 5) == 0
    first, *lines, last = capfd.readouterr().out.splitlines()
    assert [first] == title and "word" not in "".join(lines) and last.startswith("step 5: loss ")
    assert len(lines) == 16 and all(re.fullmatch(r" +\d+ +\d+\.\d{4}", line) for line in lines)


def test_or_from_the_beginning_past_a_damaged_checkpoint_each_step_with_the_flags_of_its_time(trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "3" / "state")
    for step, B in ((2, 2), (5, 1)):
        assert run(replay.main, folder, "--step", step, "--show-text") == 0
        out, notes = capfd.readouterr()
        assert "trained again from step 0 on, the random weights\n" in notes and "not those of the log" not in notes
        assert ("checkpoints/3 is corrupt" in notes) == (step == 5)
        row = logged(trained)[step]
        places, losses, _, _ = shown(out)
        assert places == list(range(row["position"] + 1, row["position"] + 1 + 16 * B))
        assert abs(np.mean(losses) - row["loss"]) < 1e-4 and out.endswith(", as in the log\n")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["3", "6"]


@pytest.mark.slow
def test_a_step_has_the_learning_rate_of_its_time(tmp_path, capfd):
    """--steps has changed since, and with it the schedule."""
    (tmp_path / "text.txt").write_text(" ".join(f"word{n % 7}" for n in range(82)))
    train_on(tmp_path, "--B", 2, "--recipe", "gpt3", "--steps", 3, "--n-layer", 1)
    train_on(tmp_path, "--B", 2, "--recipe", "gpt3", "--steps", 5, "--n-layer", 1)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
    assert logged(tmp_path / "run")[4]["lr"] != logged(tmp_path / "run")[2]["lr"]
    capfd.readouterr()
    assert run(replay.main, tmp_path / "run", "--step", 4) == 0
    out, notes = capfd.readouterr()
    assert "from step 0 on" in notes and out.endswith(", as in the log\n")


def test_numbers_that_differ_from_the_log_are_told(trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "run")
    log = folder / "log.jsonl"
    log.write_text(log.read_text().replace(f'"loss": {logged(folder)[4]["loss"]}', '"loss": 1.5') + "no row\n")
    assert run(replay.main, folder, "--step", 4) == 0
    out, notes = capfd.readouterr()
    assert "from step 4 on the numbers are not those of the log: loss " in notes
    assert out.endswith(", not what the log has: see the note\n")


def test_a_step_that_was_skipped_is_shown_as_well(trained, tmp_path, capfd):
    """Its row has null for what was not finite: here for all, so that the numbers are told of, and nothing fails."""
    folder = shutil.copytree(trained, tmp_path / "run")
    log = folder / "log.jsonl"
    log.write_text(re.sub(r'("loss"|"grad_norm"): [\d.]+', r"\1: null", log.read_text()))
    assert run(replay.main, folder, "--step", 3) == 0
    assert "loss None, grad norm None in the log" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--step", "1"], 2, "not given: RUN"),
        (["nowhere", "--step", "1"], 4, "nowhere: no run that has begun; give a run folder"),
        (["RUN", "--step", "-1"], 2, "--step -1 is out of range"),
        (["RUN", "--step", "6"], 4, r"run/log.jsonl has no row of step 6; it has those of 0 to 5"),
        (["RUN", "--step", "5", "--data", "nothing.txt"], 3, "nothing.txt: no such file"),
    ],
)
def test_wrong_input_is_one_line(words, code, message, trained, capfd):
    assert run(replay.main, *(trained if word == "RUN" else word for word in words)) == code
    assert re.match(f"error: .*{message}", capfd.readouterr().err)


def test_another_text_is_refused(trained, tmp_path, capfd):
    """By what it is; a name may change."""
    text = tmp_path / "moved.txt"
    text.write_bytes((trained.parent / "text.txt").read_bytes())
    assert run(replay.main, trained, "--step", 5, "--data", text) == 0
    text.write_text("other words " * 90)
    capfd.readouterr()
    assert run(replay.main, trained, "--step", 5, "--data", text) == 4
    assert re.search(
        r"step 5 of .* was trained on another text than .*moved.txt: its hash was \w{16}, and is \w{16}; name that",
        capfd.readouterr().err,
    )


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--lora", 2, "--dropout", 0.1)])
def test_a_pair_is_shown_with_what_the_model_thinks_of_its_answers(more, tmp_path, capfd):
    """Of a dpo run; the same another way: from the checkpoint, with numpy."""
    tokenizer, weights = open_tokenizer("bytes"), tmp_path / "weights"
    shape = GPT2Config(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=16)
    save_hf(spread_model(shape), weights, others=tokenizer.hugging_face_files(), tokenizer=tokenizer)
    answers = [{"chosen": f" word{n}", "rejected": f" other{n} words"} for n in range(5)]
    lines = [json.dumps({"prompt": f"the prompt {n}"} | each) for n, each in enumerate(answers)]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines[:2], "", *lines[2:]]))
    words = ["--objective", "dpo", "--init-from", weights, "--data", tmp_path / "pairs.jsonl", "--lr", "1e-3"]
    words += ["--B", 2, "--accumulate", 1, "--T", 48, "--epochs", 1.2, "--save-every", 2, "--out", tmp_path / "run"]
    assert run(train.main, *words, *more) == 0
    before, row = files(tmp_path / "run"), logged(tmp_path / "run")[2]
    capfd.readouterr()
    assert run(replay.main, tmp_path / "run", "--step", 2, "--show-text") == 0
    out, notes = capfd.readouterr()
    assert out.endswith(f"\nstep 2: loss {row['loss']:.6f}, gradient norm {row['grad_norm']:.6f}, as in the log\n")
    assert "trained again from step 2 on, its checkpoint 2\n" in notes and files(tmp_path / "run") == before

    policy, reference = load(resolve_weights(tmp_path / "run" / "checkpoints" / "2")), load_hf(weights)

    def log_prob(model, prompt, answer):
        tokens = np.array([*tokenizer.encode(prompt + answer), tokenizer.end], np.int32)
        logits = np.asarray(forward(model, tokens[None]), np.float64)[0]
        values = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return sum(values[t - 1, tokens[t]] for t in range(len(prompt), len(tokens)))

    losses = []
    for shown in out.split("--- pair ")[1:]:
        title = r"\d of 2, line (\d) of .*pairs.jsonl, loss (\S+), margin (\S+)\nprompt of 12 tokens\n"
        n, loss, margin = re.match(title, shown).groups()
        n = int(n) - 1 - (int(n) > 3)
        assert f"| the prompt {n}\nchosen" in shown
        texts = [f"the prompt {n}", answers[n]["chosen"], answers[n]["rejected"]]
        answer = r"(?:chosen|rejected) of \d+ tokens, log-probability (\S+), the reference's (\S+)\n\| (.*)\n"
        numbers = re.findall(answer, shown)
        assert [text for *_, text in numbers] == [f"{text}<|endoftext|>" for text in texts[1:]]
        expected = [[log_prob(model, texts[0], answer) for model in (policy, reference)] for answer in texts[1:]]
        np.testing.assert_allclose([[float(of) for of in both] for *both, _ in numbers], expected, atol=2e-4)
        gap = 0.1 * (expected[0][0] - expected[0][1] - expected[1][0] + expected[1][1])
        np.testing.assert_allclose([float(margin), float(loss)], [gap, np.log1p(np.exp(-gap))], atol=2e-4)
        losses.append(float(loss))
    if not more:  # dropout is in the log's loss alone
        np.testing.assert_allclose(np.mean(losses), row["loss"], atol=1e-4)


def test_rewards_and_rated_answers_are_printed(capsys):
    tokens = np.array([[[*b"ab\ncd", 256, 0], [*b"ab\ncX!", 256]]])
    tokenizer, batch = open_tokenizer("bytes"), {"tokens": tokens, "start": np.array([4]), "last": np.array([[5, 6]])}
    batch |= {"weight": np.float32([1]), "margin": np.float32([0.75])}
    seen = {"loss": np.array([0.5]), "margin": np.array([1.0]), "rewards": np.array([[0.25, -0.75]])}
    replay.print_answers(batch, [("pairs.jsonl", 1234)], seen, tokenizer)
    title = "--- pair 1 of 1, line 1,234 of pairs.jsonl, loss 0.5000, margin 1.0000, 0.75 wanted\n"
    title += "prompt of 4 tokens\n| ab\n| c\n"
    answers = "chosen of 2 tokens, reward 0.2500\n| d<|endoftext|>\n"
    answers += "rejected of 3 tokens, reward -0.7500\n| X!<|endoftext|>\n"
    assert capsys.readouterr().out == title + answers
    replay.print_answers(batch, [("pairs.jsonl", 1234)], seen, None)
    without = "".join(line for line in (title + answers).splitlines(keepends=True) if not line.startswith("| "))
    assert capsys.readouterr().out == without

    batch = {"tokens": tokens[0], "start": np.array([4, 4]), "last": np.array([5, 6]), "good": np.array([1, 0])}
    batch |= {"weight": np.float32([1, 2.5]), "reference": np.float32([-1, -2])}
    seen = {"loss": np.array([0.5, 0.25]), "chosen_log_prob": np.array([-3, 0]), "rejected_log_prob": np.array([0, -4])}
    replay.print_answers(batch, [("rated.jsonl", 3), ("rated.jsonl", 1)], seen, tokenizer)
    out = capsys.readouterr().out
    titles, numbers = (re.findall(of, out, re.MULTILINE) for of in ("^---.*", "^(?:good|bad).*"))
    assert titles == [
        "--- answer 1 of 2, line 3 of rated.jsonl, loss 0.5000",
        "--- answer 2 of 2, line 1 of rated.jsonl, loss 0.2500 of weight 2.5",
    ]
    assert numbers == [
        "good of 2 tokens, log-probability -3.0000, the reference's -1.0000",
        "bad of 3 tokens, log-probability -4.0000, the reference's -2.0000",
    ]


def test_its_tokens_losses_are_those_of_the_loss(trained):
    from jaxgpt.objectives.next_token import loss, token_losses

    flags, _ = load_run_config(trained)
    model = build_trainer(flags).init_state(seed=0).model
    x, y, _ = next_batch(corpus.load(flags.data.data).tokens, 7, 3, 16)
    total, count = loss(model, {"tokens": x, "targets": y})["loss"]
    losses = jax.jit(token_losses)(model, x, y)
    assert losses.shape == (3, 16) and count == losses.size
    np.testing.assert_allclose(losses.sum(), total, rtol=1e-6)
