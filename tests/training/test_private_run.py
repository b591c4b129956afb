"""Whole private runs: what they write and promise, resume, and what neither --accumulate nor a mesh changes."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("dp_accounting")

from jaxgpt import console
from jaxgpt.commands import replay, train
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.folder import SECRET
from jaxgpt.training.accounting import epsilon_after, noise_multiplier_for
from tests.support.erasure import make_folder, make_texts, run_erase
from tests.support.kill import numbers, saved_bits

SHAPE = ["--n-layer", 1, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--T", 24, "--tokenizer", "bytes"]
DP = ["--dp-epsilon", 4, "--dp-delta", 1e-3]
TEXT = "".join(f"{n} and {n} are {2 * n}. " for n in range(120))


@pytest.fixture
def text(write):
    return write("text.txt", TEXT)


@pytest.fixture
def pairs(write):
    records = [{"prompt": f"{n}?", "completion": f" {n * n}", "user": f"u{n % 20}"} for n in range(60)]
    return write("pairs.jsonl", records)


def start(data, out, *words):
    words = [*SHAPE, "--data", data, "--out", out, "--B", 8, *DP, *words]
    return console.run(train.main, [str(word) for word in words])


def rows_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def refused(capsys, code, *arguments):
    assert start(*arguments) == code
    return capsys.readouterr().err


def test_a_run_says_what_it_promises(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert start(text, out, "--steps", 6) == 0
    record = json.loads((out / "config.json").read_text())["privacy"]
    units = len(TEXT) // 25
    assert record == {
        **{"epsilon": 4, "delta": 1e-3, "clip": 1, "unit": "row", "units": units, "steps": 6, "is_secret": True},
        **{"sampling_rate": 8 / units, "expected_batch": 8},
        "noise_multiplier": noise_multiplier_for(4, 1e-3, 8 / units, 6),
    }
    rows = rows_of(out)
    epsilons = [row["epsilon"] for row in rows]
    assert epsilons == sorted(epsilons) and 3.9 < epsilons[-1] <= 4
    assert epsilons[2] == epsilon_after(record["noise_multiplier"], 8 / units, 3, 1e-3)
    assert [row["tokens_seen"] for row in rows] == [24 * 8 * n for n in range(1, 7)]  # those that are expected
    assert len({row["drawn"] for row in rows}) > 1 and all(0 <= row["clipped"] <= 1 for row in rows if row["drawn"])
    printed = capsys.readouterr().out
    assert f"epsilon 4, delta 0.001 for each of the {units} rows of {text}" in printed
    assert "resume" not in printed  # more steps would need more noise

    key = out / SECRET
    assert key.stat().st_mode & 0o777 == 0o600 and key.read_text().strip() not in (out / "config.json").read_text()
    first, losses = key.read_text(), [row["loss"] for row in rows]
    assert start(text, out, "--steps", 6, "--fresh") == 0
    assert key.read_text() != first and [row["loss"] for row in rows_of(out)] != losses


def test_it_resumes_to_the_bit_with_its_own_secret(text, tmp_path):
    out, parts = tmp_path / "run", tmp_path / "parts"
    assert start(text, out, "--steps", 4, "--save-every", 2, "--dropout", 0.1) == 0
    shutil.copytree(out, parts)
    shutil.rmtree(parts / "checkpoints" / "4")
    assert start(text, parts, "--steps", 4, "--save-every", 2, "--dropout", 0.1) == 0
    assert numbers(out) == numbers(parts) and saved_bits(out, 4) == saved_bits(parts, 4)


def test_with_another_promise_it_does_not_resume(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert start(text, out, "--steps", 1) == 0
    more = refused(capsys, 4, text, out, "--steps", 2)
    assert "the noise is for 1 steps in all" in more and "use --steps 1" in more
    assert "sampling Poisson, 8 of" in refused(capsys, 4, text, out, "--steps", 1, "--B", 4)
    (out / SECRET).write_text("0" * 64 + "\n")
    assert "dp_key" in refused(capsys, 4, text, out, "--steps", 1)
    (out / SECRET).write_text("nothing")
    assert "is not a run's key" in refused(capsys, 4, text, out, "--steps", 1)
    assert console.run(replay.main, [str(out), "--step", "0"]) == 4
    assert "a private run, whose rows are nobody's to see" in capsys.readouterr().err


def losses_of(text, out, *words):
    assert start(text, out, "--steps", 4, "--dp-seed", 3, "--lr", 1e-2, *words) == 0
    return [(row["loss"], row["grad_norm"], row["drawn"]) for row in rows_of(out)]


def test_accumulate_makes_the_batch_larger_and_changes_nothing(text, tmp_path):
    one = losses_of(text, tmp_path / "one")
    assert losses_of(text, tmp_path / "parts", "--B", 4, "--accumulate", 2) == one
    several = losses_of(text, tmp_path / "several", "--dp-microbatch", 3)
    np.testing.assert_allclose(several, one, rtol=1e-5)


@pytest.mark.slow
def test_no_mesh_changes_the_losses(text, tmp_path, eight_devices):
    one = losses_of(text, tmp_path / "one", "--mesh", "data=1")
    for mesh in ("data=8", "data=1,fsdp=2"):
        np.testing.assert_allclose(losses_of(text, tmp_path / mesh, "--mesh", mesh), one, rtol=1e-5)


def test_adapters_have_the_noise_and_the_weights_under_them_none(text, pairs, tmp_path):
    base, out = tmp_path / "base", tmp_path / "lora"
    words = [*SHAPE, "--data", text, "--out", base, "--steps", 1]
    assert console.run(train.main, [str(word) for word in words]) == 0
    words = ["--init-from", base, "--lora", 2, "--data", pairs, "--T", 24, "--out", out, "--B", 8, *DP, "--dp-seed", 1]
    words += ["--dp-clip", 0.5, "--steps", 2, "--lr", 1e-2]
    assert console.run(train.main, [str(word) for word in words]) == 0
    with Checkpoints(out / "checkpoints") as checkpoints:
        names = checkpoints.progress(2).identity
        assert names["dp_epsilon"] == 4 and "base" in names
    record, rows = json.loads((out / "config.json").read_text())["privacy"], rows_of(out)
    trained = 2 * (16 * 2 + 2 * 48) // 2
    expected = record["noise_multiplier"] * 0.5 / 8 * np.sqrt(trained)  # of the adapters' numbers alone
    assert rows[0]["grad_norm"] == pytest.approx(expected, rel=0.25)


def test_a_user_is_a_unit(pairs, tmp_path, capsys):
    out = tmp_path / "run"
    assert start(pairs, out, "--steps", 2, "--dp-unit", "user") == 0
    record = json.loads((out / "config.json").read_text())["privacy"]
    assert (record["units"], record["unit"], record["sampling_rate"]) == (20, "user", 8 / 20)
    assert f"for each of the 20 values of user in {pairs}" in capsys.readouterr().out


def test_what_can_not_be_promised_is_refused(text, pairs, write, tmp_path, capsys):
    out = tmp_path / "run"
    judged = write(
        "judged.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", "weight": n + 1} for n in range(30)]
    )
    for code, message, words in (
        (2, "must be below 1 / 89 rows", (text, out, "--dp-delta", 0.02)),
        (3, "a step draws 90 of 89 rows", (text, out, "--B", 90)),
        (2, "a text, whose rows have no fields; give it examples", (text, out, "--dp-unit", "user")),
        (3, "line 1: --dp-unit name needs a text", (pairs, out, "--dp-unit", "name")),
        (3, "'weight' has no effect in a private run", (judged, out, "--objective", "orpo", "--accumulate", 1)),
        (2, "--order sequential: a private run draws", (text, out, "--order", "sequential")),
    ):
        error = refused(capsys, code, *words, "--steps", 2)
        assert message in error and error.count("\n") == 1, error
        assert not out.exists()


def test_after_an_erasure_it_starts_over_with_other_noise(tmp_path, capsys):
    """Of two models with the same noise the difference would tell the erased document."""
    folder, out = make_folder(tmp_path / "data", train=make_texts(20)), tmp_path / "run"
    words = folder, out, "--steps", 4, "--save-every", 2
    assert start(*words) == 0
    key, losses = (out / SECRET).read_text(), [row["loss"] for row in rows_of(out)]
    erased = folder, "--doc", "train:19", "--runs", tmp_path, "--apply"
    assert run_erase(*erased) == 0
    printed = capsys.readouterr().out
    assert f"{out}: has read it from step 0 on; it is private, and its noise must not come again" in printed
    assert "starts over" in printed
    assert "a private run does not resume on other data" in refused(capsys, 4, *words)
    assert run_erase(*erased, "--delete") == 0 and list((out / "checkpoints").iterdir()) == []
    assert start(*words) == 0
    assert (out / SECRET).read_text() != key and [row["loss"] for row in rows_of(out)] != losses
    capsys.readouterr()
    assert run_erase(*erased) == 0 and f"{out}: reads the folder, and has not read it" in capsys.readouterr().out


@pytest.mark.slow
def test_labels_and_judged_answers_are_rows_too(write, tmp_path):
    labels = write("labels.jsonl", [{"text": f"number {n}", "label": n % 2} for n in range(40)])
    judged = write("judged.jsonl", [{"prompt": f"{n}", "chosen": " yes", "rejected": " no"} for n in range(40)])
    assert start(labels, tmp_path / "labels", "--steps", 1, "--val", 0.2) == 0
    assert start(judged, tmp_path / "judged", "--steps", 1, "--objective", "simpo", "--T", 24, "--accumulate", 1) == 0
    assert "val_loss" in rows_of(tmp_path / "labels")[0]
