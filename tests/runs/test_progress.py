import dataclasses
import json

import jax.numpy as jnp
import pytest

from jaxgpt.errors import CorruptError
from jaxgpt.runs.progress import Progress, format_error, from_json, require_fingerprint, require_same_run, to_json

PROGRESS = Progress(7, 448, 448, 2, 32, 9, 2, {"seed": 0, "lr": 3e-4, "corpus": "ab", "dtype": "float32"})
STATE = {"a": jnp.arange(5.0), "b": jnp.ones((2, 3))}


@pytest.fixture
def content():
    return json.loads(json.dumps(to_json(PROGRESS, STATE, {"jax": "0.10.2"})))


def test_what_is_read_is_what_was_written(content, tmp_path):
    progress, fingerprint = from_json(content, tmp_path / "7")
    assert progress == PROGRESS
    require_fingerprint(STATE, fingerprint, tmp_path)


def test_no_changed_character_goes_unnoticed(content, tmp_path):
    """Each character of the file in turn, by one bit: it is no JSON, or not what was saved, or says the same."""
    text = json.dumps(content)
    for place in range(len(text)):
        changed = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        try:
            there = json.loads(changed)
        except ValueError:
            continue
        with pytest.raises(CorruptError, match="can't be used"):
            from_json(there, tmp_path)


def test_the_first_array_that_differs_is_named(content, tmp_path):
    _, fingerprint = from_json(content, tmp_path / "7")
    with pytest.raises(CorruptError, match=r"\['b'\] has the fingerprint \w{8}, and \w{8} was saved"):
        require_fingerprint(STATE | {"b": STATE["b"].at[1, 1].set(1.0000001)}, fingerprint, tmp_path)


@pytest.mark.parametrize("name", ["07", "8", "7.damaged", "checkpoints"])
def test_the_name_of_a_checkpoint_is_its_step(content, tmp_path, name):
    with pytest.raises(CorruptError, match=rf"{name} is corrupt and .* \(it was saved as the checkpoint of step 7\)$"):
        from_json(content, tmp_path / name)


START = {"dtype": "float32", "fingerprint": "ab"}
CONFIG = {"seed": 0, "lr": 3e-4, "dtype": "auto", "corpus": "text.txt", "fingerprint": "ab", "B": 9, "starts": [START]}


@pytest.mark.parametrize(
    "config, identity, differing",
    [
        ({}, {}, ""),
        ({"lr": 1e-3}, {}, "lr is 0.0003 there, and 0.001 in"),
        ({}, {"seed": 1}, "seed is 1 there, and 0 in"),
        ({}, {"corpus": "cd"}, "corpus is cd there, and ab in"),
        ({"starts": [START, START | {"fingerprint": "cd"}], "fingerprint": "cd"}, {}, ""),  # --allow-other-data
        ({"starts": [START, START | {"fingerprint": "cd"}]}, {"corpus": "ef"}, "corpus is ef there, and ab or cd in"),
        ({}, {"dtype": "bfloat16"}, "dtype is bfloat16 there, and float32 in"),
        ({"order": "shuffled"}, {"order": "T=32 shuffled"}, ""),
        ({"init_from": "a", "base": "/a"}, {"init_from": "b"}, "init_from is b there, and a in"),
        ({"init_from": "a", "base": "/a"}, {"init_from": "b", "base": "f00d"}, ""),  # which says what they are
        ({"min_lr_ratio": 0.1}, {}, ""),  # a flag that is younger than the checkpoint
        ({"objective": "text"}, {"objective": "auto"}, ""),  # the kind of data of an older run
        ({"objective": "a", "data_kind": "text"}, {"objective": "b"}, "objective is b there, and a in"),
        ({}, {"sharpness": 0.1}, ""),  # or than config.json
        ({"starts": None}, {"seed": 1}, ""),  # corrupt
    ],
)
def test_a_checkpoint_is_its_runs(tmp_path, config, identity, differing):
    where = tmp_path / "run" / "checkpoints" / "7"
    where.mkdir(parents=True)
    progress = dataclasses.replace(PROGRESS, identity=PROGRESS.identity | identity)
    require_same_run(progress, where)  # nothing says whose it is
    (tmp_path / "run" / "config.json").write_text(json.dumps(CONFIG | config))
    if differing:
        with pytest.raises(CorruptError, match=f"^{where} is another run's and can't be used: {differing} this run's"):
            require_same_run(progress, where)
    else:
        require_same_run(progress, where)


@pytest.mark.parametrize("foreign", [None, 3, [], {}, {"epoch": 3}, {"step": 1}], ids=str)
def test_another_json_is_refused(foreign, tmp_path):
    with pytest.raises(CorruptError, match=r"can't be used \(its JSON (has no SHA-256|is not a checkpoint's)"):
        from_json(foreign, tmp_path)


@pytest.mark.parametrize(
    "error, reason",
    [
        (KeyError("state"), "'state' is missing"),
        (ValueError("two\n lines"), "two lines"),
        (Exception(), "no reason is given"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "runs/a"), "runs/a: Permission denied"),
    ],
    ids=str,
)
def test_the_reason_of_an_error_is_in_words(error, reason):
    assert format_error(error) == reason
