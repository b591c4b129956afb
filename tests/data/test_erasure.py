import json

import numpy as np
import pytest

from jaxgpt.data import erasure, shards
from jaxgpt.data.redaction import merge
from jaxgpt.errors import DataError
from tests.support.erasure import BYTES, make_folder, make_texts, places_of, read_tokens

TEXTS = make_texts(30)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", train=TEXTS, val=make_texts(4, seed=1))


def test_end_tokens_take_the_places_of_a_document(folder):
    before, first, end = read_tokens(folder, "train"), *places_of(folder, "train", TEXTS[8])
    meta, old = shards.read_meta(folder), shards.open_split(folder, "train", BYTES)
    assert first // 500 < end // 500  # it lies in two shards
    (folder / "train_000001.bin").chmod(0o640)
    erasure.begin(folder, {"train": merge([(first, end)])}, {"train": 1}, BYTES)
    erasure.complete(folder, BYTES)
    expected = before.copy()
    expected[first:end] = BYTES.end
    np.testing.assert_array_equal(read_tokens(folder, "train"), expected)
    new = shards.open_split(folder, "train", BYTES)
    assert new.erased.tolist() == [[first, end]] and new.fingerprint != old.fingerprint
    assert [each.fingerprint for each in new.erasures] == [old.fingerprint]
    assert shards.verify(folder) == len(list(folder.glob("*.bin")))  # the hashes are those of the new files
    after = shards.read_meta(folder)
    assert after["splits"]["train"]["documents"] == meta["splits"]["train"]["documents"] - 1
    assert after["splits"]["train"]["text_bytes"] == meta["splits"]["train"]["text_bytes"] - (end - first)
    assert after["splits"]["val"] == meta["splits"]["val"] and (folder / "train_000001.bin").stat().st_mode & 0o40
    assert shards.open_split(folder, "val", BYTES).erasures == ()
    assert not any(TEXTS[8].encode() in path.read_bytes() for path in folder.iterdir())


def test_a_folder_in_which_an_erasure_has_begun_is_not_opened(folder):
    places = places_of(folder, "train", TEXTS[3])
    erasure.begin(folder, {"train": merge([places])}, {}, BYTES)
    with pytest.raises(DataError, match=r"an erasure was interrupted, .*; run: python -m jaxgpt erase .*data --apply"):
        shards.open_split(folder, "train", BYTES)
    assert [ranges.tolist() for ranges in erasure.pending(folder).values()] == [[list(places)]]
    erasure.complete(folder, BYTES)
    assert shards.open_split(folder, "train", BYTES).erased.tolist() == [list(places)]
    assert erasure.pending(folder) == {}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    erasure.complete(folder, BYTES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


UNCOUNTED = {"train": {"fingerprint": "f", "ranges": [[0, 3]], "documents": "1"}}


@pytest.mark.parametrize(
    "entry", [3, {}, {"splits": {}}, {"splits": {"train": 3}}, {"splits": {"nope": {}}}, {"splits": UNCOUNTED}]
)
def test_a_record_that_is_none_is_refused(folder, entry):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"erasure_pending": entry}))
    with pytest.raises(DataError, match=r"meta\.json: corrupt|no split"):
        erasure.pending(folder)


def test_counts_that_are_no_numbers_are_refused_before_a_token_is_erased(folder):
    meta = json.loads((folder / "meta.json").read_text())
    meta["splits"]["train"]["documents"] = "many"
    (folder / "meta.json").write_text(json.dumps(meta))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match=r"meta\.json: corrupt: its 'documents' is no number"):
        erasure.begin(folder, {"train": merge([(1, 9)])}, {}, BYTES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_fingerprint_tells_what_is_not_learned(folder):
    """A folder whose meta.json forgot an erasure is another one: its targets are."""
    erasure.begin(folder, {"train": merge([places_of(folder, "train", TEXTS[3])])}, {}, BYTES)
    erasure.complete(folder, BYTES)
    erased = shards.open_split(folder, "train", BYTES).fingerprint
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"erasures": []}))
    assert shards.open_split(folder, "train", BYTES).fingerprint != erased
