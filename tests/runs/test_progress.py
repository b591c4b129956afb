import json

import jax.numpy as jnp
import pytest

from jaxgpt.errors import CorruptError
from jaxgpt.runs.progress import Progress, format_error, from_json, require_fingerprint, to_json

PROGRESS = Progress(7, 448, 448, 2, 32, 9, 2, {"seed": 0, "lr": 3e-4, "corpus": "ab", "dtype": "float32"})
STATE = {"a": jnp.arange(5.0), "b": jnp.ones((2, 3))}


@pytest.fixture
def content():
    return json.loads(json.dumps(to_json(PROGRESS, STATE, {"jax": "0.10.2"})))


def test_what_is_read_is_what_was_written(content, tmp_path):
    progress, fingerprint = from_json(content, tmp_path)
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
    _, fingerprint = from_json(content, tmp_path)
    with pytest.raises(CorruptError, match=r"\['b'\] has the fingerprint \w{8}, and \w{8} was saved"):
        require_fingerprint(STATE | {"b": STATE["b"].at[1, 1].set(1.0000001)}, fingerprint, tmp_path)


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
