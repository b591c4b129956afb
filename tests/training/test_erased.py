"""Which checkpoints may resume when something was erased: those whose batches had none of it, by a scan of them all."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxgpt.data import erasure
from jaxgpt.data.config import DataConfig
from jaxgpt.data.datasets import training_data
from jaxgpt.data.redaction import merge
from jaxgpt.data.versions import texts_of
from jaxgpt.errors import CheckpointError
from jaxgpt.runs.progress import Progress
from jaxgpt.training.erased import known_identity
from tests.support.erasure import BYTES, make_folder, make_texts, places_of

TEXTS = make_texts(20)
STARTS = [{"step": 0, "B": 2, "T": 8, "accumulate": 1}, {"step": 9, "B": 3, "T": 8, "accumulate": 2}]


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", train=TEXTS)


def write_starts(tmp_path, *starts):
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"starts": starts}))


def erase(folder, number):
    places = places_of(folder, "train", TEXTS[number])
    erasure.begin(folder, {"train": merge([places])}, {}, BYTES)
    erasure.complete(folder, BYTES)


def saved_at(step, fingerprint, corpus="corpus"):
    return Progress(step, 0, 0, 2, 8, 99, 1, {corpus: fingerprint, "lr": 1.0})


@pytest.mark.parametrize("order", ["sequential", "shuffled"])
def test_a_checkpoint_may_resume_if_no_batch_before_it_had_what_was_erased(folder, tmp_path, order):
    config = DataConfig(data=str(folder), order=order, tokenizer="bytes", T=8)
    before, old = training_data(config), training_data(config).fingerprint
    write_starts(tmp_path, *({"fingerprint": old} | start for start in STARTS))
    erase(folder, 7)
    now = training_data(config)
    (ranges,) = [text.tokens.erased for text in texts_of(now)]
    ((first, end),) = ranges.tolist()
    position, has_read = 0, False
    verdicts = []
    for step in range(30):
        where = tmp_path / "run" / "checkpoints" / str(step)
        if has_read:
            with pytest.raises(CheckpointError, match=r"checkpoints/\d+ has read, in step \d+, what was erased from"):
                known_identity(saved_at(step, old), now, where)
        else:
            assert known_identity(saved_at(step, old), now, where) == {"corpus": now.fingerprint, "lr": 1.0}
        verdicts.append(has_read)
        sized = dataclasses.replace(before, B=2 if step < 9 else 6, T=8)
        position = sized.resume_position(position)
        starts = [start for _, start in sized.locate(position)]
        has_read = has_read or any(start < end and first < start + 8 + 1 for start in starts)
        _, position = sized.batch(position)
    assert {*verdicts} == {False, True} and verdicts.index(True) > 1


def test_of_several_erasures_those_count_that_came_after_the_checkpoint(folder, tmp_path):
    config = DataConfig(data=str(folder), tokenizer="bytes")
    fingerprints = [training_data(config).fingerprint]
    for number in (19, 0):  # the first document is read by the first step, the last one by none of the first few
        erase(folder, number)
        fingerprints.append(training_data(config).fingerprint)
    now, where = training_data(config), tmp_path / "run" / "checkpoints" / "4"
    start = {"B": 1, "T": 8, "accumulate": 1, "step": 0}
    for fingerprint in fingerprints[:2]:
        write_starts(tmp_path, start | {"fingerprint": fingerprint})
        with pytest.raises(CheckpointError, match="in step 0"):
            known_identity(saved_at(4, fingerprint), now, where)
        assert known_identity(saved_at(0, fingerprint), now, where)["corpus"] == now.fingerprint
    write_starts(tmp_path, start | {"fingerprint": fingerprints[2]})
    assert known_identity(saved_at(4, fingerprints[2]), now, where)["corpus"] == now.fingerprint


def test_nothing_is_forgiven_that_can_not_be_proved(folder, tmp_path):
    """Another text, a start on one, a config.json without the first start: the signature stays, and is refused."""
    config, start = DataConfig(data=str(folder), tokenizer="bytes"), {"B": 1, "T": 8, "accumulate": 1, "step": 0}
    old = training_data(config).fingerprint
    erase(folder, 19)
    now, where = training_data(config), tmp_path / "run" / "checkpoints" / "4"
    write_starts(tmp_path, start | {"fingerprint": old})
    assert known_identity(saved_at(4, old), now, where)["corpus"] == now.fingerprint
    assert known_identity(saved_at(4, "another"), now, where)["corpus"] == "another"
    assert known_identity(saved_at(4, old, "mixture"), now, where) == {"mixture": old, "lr": 1.0}
    for starts in (
        [],
        [start | {"fingerprint": "another"}],
        [start | {"fingerprint": old, "step": 2}],
        [start | {"fingerprint": old, "B": "1"}],
        [start],
        [3],
    ):
        write_starts(tmp_path, *starts)
        assert known_identity(saved_at(4, old), now, where)["corpus"] == old
    assert known_identity(saved_at(4, old), now, Path("nowhere/checkpoints/4"))["corpus"] == old
