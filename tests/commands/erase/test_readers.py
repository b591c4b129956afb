"""Which runs have read a document, from folders as runs write them, against a scan of their batches."""

import dataclasses
import json

import pytest

from jaxgpt.commands.erase.readers import Reader, examine, find_links, spread
from jaxgpt.commands.erase.runs import describe
from jaxgpt.data import erasure, shards
from jaxgpt.data.config import DataConfig
from jaxgpt.data.datasets import training_data
from jaxgpt.data.redaction import merge
from jaxgpt.runs.lineage import write_lineage
from jaxgpt.runs.provenance import FILE, Provenance
from tests.support.erasure import BYTES, make_folder, make_texts, places_of
from tests.support.run_folders import START, write_run

TEXTS, VAL = make_texts(30), make_texts(5, seed=1)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", train=TEXTS, val=VAL)


def make_run(place, steps=40, saved=(), starts=None, **flags):
    """A run of these flags, as if it had trained, in batches of 2 sequences of 16 tokens."""
    data = training_data(DataConfig(T=16, tokenizer="bytes", **flags))
    starts = [START | (start or {}) for start in starts or [{}]]
    starts = [{"accumulate": 1, "fingerprint": data.fingerprint} | start for start in starts]
    rows = [{"step": step, "position": 32 * step, "tokens_seen": 32 * (step + 1)} for step in range(steps)]
    flags |= {"tokenizer": "bytes", "accumulate": 1, "vocab_size": 257}
    write_run(place, rows, starts, **flags | {"fingerprint": data.fingerprint})
    for step in (*saved, steps):
        (place / "checkpoints" / str(step)).mkdir(parents=True)
    return place, dataclasses.replace(data, B=2, T=16)


def splits_of(folder):
    return {split: shards.open_split(folder, split, BYTES) for split in ("train", "val")}


def first_step(data, places, steps, offset=0):
    """By a scan of all batches; the folder's tokens begin in its text with that of this number."""
    position, (first, end) = 0, places
    for step in range(steps):
        for name, start in data.locate(position):
            start += offset * ("other" not in name)
            if "other" not in name and start < end and first < start + 16 + 1:
                return step
        _, position = data.batch(position)
    return None


FLAGS = [
    {"data": "{data}"},
    {"data": "{data}", "order": "shuffled"},
    {"data": "{data}", "val": "0.2"},
    {"mix": "{data}=2,{other}=1"},
    {"mix": "{data}=1,{other}=2", "order": "shuffled"},
    {"mix": "{other}[:-0.1]=1,{data}[:-0.2]=2", "order": "shuffled"},  # as `jaxgpt update` writes it
    {"mix": "{other}=1,{data}[-0.7:]=2"},
    {"data": "{data}[:-0.2]"},
    {"mix": "{other}=1,{data}[-0.7:][:-0.1]=2"},
]


@pytest.mark.parametrize("flags", FLAGS)
def test_a_run_that_read_a_document_is_found_with_the_step(flags, folder, tmp_path):
    make_folder(tmp_path / "other", train=make_texts(30, seed=2))
    flags = {name: value.format(data=folder, other=tmp_path / "other") for name, value in flags.items()}
    place, data = make_run(tmp_path / "runs" / "a", saved=(5, 10, 20, 30), **flags)
    seen, whole = set(), len(splits_of(folder)["train"])
    offset = round(0.3 * whole) if "[-0.7:]" in str(flags) else 0
    for number in (0, 7, 11, 20, 29):
        places = places_of(folder, "train", TEXTS[number])
        expected = first_step(data, places, 40, offset)
        reader = examine(describe(place), folder, splits_of(folder), {"train": merge([places])})
        assert reader.first == expected and not reader.unknown
        saved = [0, 5, 10, 20, 30, 40]
        assert reader.clean == max(step for step in saved if expected is None or step <= expected)
        tainted = [step for step in saved if expected is not None and step > expected]
        assert [int(path.name) for path in reader.tainted] == tainted
        seen.add(expected is None)
    assert seen == {True, False} or flags.get("order") == "shuffled"


def test_erased_tokens_count_for_runs_on_what_was_before(folder, tmp_path):
    old, data = make_run(tmp_path / "old", data=str(folder))
    places = places_of(folder, "train", TEXTS[7])
    erasure.begin(folder, {"train": merge([places])}, {}, BYTES)
    erasure.complete(folder, BYTES)
    new, _ = make_run(tmp_path / "new", data=str(folder))
    starts = [{"fingerprint": data.fingerprint}, {"step": 9}]
    resumed, _ = make_run(tmp_path / "resumed", starts=starts, data=str(folder))
    splits, expected = splits_of(folder), first_step(data, places, 40)
    assert expected > 9
    assert [examine(describe(run), folder, splits, {}).first for run in (old, new, resumed)] == [expected, None, None]


def test_a_folder_that_was_moved_is_known_by_its_fingerprint(folder, tmp_path):
    place, _ = make_run(tmp_path / "run", data=str(folder))
    moved = folder.rename(tmp_path / "moved")
    places = places_of(moved, "train", TEXTS[3])
    reader = examine(describe(place), moved, splits_of(moved), {"train": merge([places])})
    assert reader.first is not None


def test_what_is_not_known_is_said_and_not_guessed(folder, tmp_path):
    new = {"train": merge([places_of(folder, "train", TEXTS[3])])}
    cases = {
        "it read other tokens": {"starts": [{"fingerprint": 64 * "0"}]},
        "lacks its first steps": {"starts": [{"step": 3}]},
    }
    for number, (words, options) in enumerate(cases.items()):
        place, _ = make_run(tmp_path / f"run{number}", data=str(folder), **options)
        reader = examine(describe(place), folder, splits_of(folder), new)
        assert reader.first is None and words in reader.unknown and reader.tainted == []
    place, _ = make_run(tmp_path / "shard", data=str(folder / "train_000000.bin"))
    assert "a shard as a token file" in examine(describe(place), folder, splits_of(folder), new).unknown


def test_a_run_that_only_validates_on_it_says_so(folder, tmp_path):
    other = make_folder(tmp_path / "another", train=make_texts(30, seed=5))
    place, _ = make_run(tmp_path / "run", data=str(other), val=str(folder))
    unread, _ = make_run(tmp_path / "unread", data=str(other))
    splits, new = splits_of(folder), {"val": merge([places_of(folder, "val", VAL[1])])}
    reader = examine(describe(place), folder, splits, new)
    assert reader.first is None and "its validation data has it" in reader.why
    assert examine(describe(place), folder, splits, {}) is None
    assert examine(describe(unread), folder, splits, new) is None
    also = "old={0}[-0.2:],older={0}"
    for number, (val_also, document) in enumerate([(also, ("train", TEXTS[29])), (also, ("val", VAL[1]))]):
        place, _ = make_run(tmp_path / f"also{number}", data=str(other), val="0.2", val_also=val_also.format(folder))
        new = {document[0]: merge([places_of(folder, *document)])}
        assert "its validation data has it" in examine(describe(place), folder, splits, new).why
    assert examine(describe(place), folder, splits, {"train": merge([places_of(folder, "train", TEXTS[2])])}) is None


def test_links_to_what_has_read_it_are_found(tmp_path, folder):
    place, _ = make_run(tmp_path / "runs" / "a", saved=(5,), data=str(folder))
    make_run(tmp_path / "runs" / "b", data=str(folder))
    links = {"promoted": "a", "newest": "a/checkpoints/40", "early": "a/checkpoints/5", "b2": "b", "gone": "c"}
    for name, target in links.items():
        (tmp_path / "runs" / name).symlink_to(target)
    (tmp_path / "again").symlink_to("runs/promoted")
    found = find_links([tmp_path, tmp_path / "runs"], [Reader(describe(place), 9)])
    assert sorted(path.name for path in found) == ["again", "newest", "promoted"]
    for first in (None, 40):
        assert find_links([tmp_path], [Reader(describe(place), first)]) == []


def test_weights_are_followed_through_runs_and_exports(folder, tmp_path):
    """a has read it in step 10 or so; b began with a, c with an early checkpoint of a, d with an export of b."""
    places = places_of(folder, "train", TEXTS[7])
    other = str(make_folder(tmp_path / "other", train=make_texts(30, seed=3)))
    a, _ = make_run(tmp_path / "a", saved=(5,), data=str(folder))
    flags = {"b": "a", "c": "a/checkpoints/5", "d": "hf_b", "e": "hf_a", "g": None}
    runs = {"a": a}
    for name, parent in flags.items():
        runs[name], _ = make_run(tmp_path / name, data=other)
        config = json.loads((runs[name] / "config.json").read_text())
        init_from = parent and str(tmp_path / parent)
        (runs[name] / "config.json").write_text(json.dumps(config | {"init_from": init_from}))
    runs["f"], _ = make_run(tmp_path / "f", data=other)
    parent = {"run": str(tmp_path / "d"), "id": None, "step": 40}
    write_lineage(
        runs["f"],
        {"run": "f", "step": 0, "created": "then", "parents": [parent], "data": [], "gates": [], "promoted": False},
    )
    for name, source in {"hf_a": Provenance("../a", 5, ""), "hf_b": Provenance("../b", 40, "")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(source.to_json())
    (tmp_path / "hf").mkdir()
    facts = [describe(run) for run in runs.values()]
    new = {"train": merge([places])}
    readers = [each for run in facts if (each := examine(run, folder, splits_of(folder), new))]
    exports = [tmp_path / name for name in ("hf", "hf_a", "hf_b")]
    found, tainted, unknown = spread(readers, facts, exports)
    generations = {reader.run.folder.name: reader.generation for reader in found if reader.first is not None}
    assert generations.keys() == {"a", "b", "d", "f"} and generations["a"] < generations["b"]
    assert generations["d"] < generations["f"] or generations["f"] >= 1
    assert (tainted, unknown) == ([tmp_path / "hf_b"], [tmp_path / "hf"])


def test_an_export_of_a_run_of_which_nothing_is_known_is_not_known_either(folder, tmp_path):
    place, _ = make_run(tmp_path / "run", data=str(folder), starts=[{"step": 3}])
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / FILE).write_text(Provenance("../run", 40, "").to_json())
    new = {"train": merge([places_of(folder, "train", TEXTS[3])])}
    reader = examine(describe(place), folder, splits_of(folder), new)
    _, tainted, unknown = spread([reader], [describe(place)], [tmp_path / "hf"])
    assert reader.unknown and (tainted, unknown) == ([], [tmp_path / "hf"])
