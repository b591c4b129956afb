import hashlib
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data import shards, token_file
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.gpt2_tokenizer import RANKS_SHA256, GPT2Tokenizer
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.errors import DataError


def prepare_folder(folder, train, val=(), per_shard=7):
    """A prepared folder of these tokens."""
    folder.mkdir(exist_ok=True)
    splits = {}
    for name, tokens in (("train", train), ("val", val)):
        written = shards.write(folder, name, [np.array(tokens, np.uint16)], per_shard)
        splits[name] = {"documents": 1, "text_bytes": 2, "shards": written}
    shards.write_meta(folder, splits, command="jaxgpt prepare")
    return folder


def test_a_folder_is_what_its_format_says(tmp_path):
    """Read with numpy and json alone."""
    ids = [*range(50240, 50257), 0, 65535]
    folder = prepare_folder(tmp_path / "a", ids, [1, 2, 3])
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["format"], meta["version"], meta["dtype"]) == ("jaxgpt-tokens", 1, "uint16")
    assert meta["tokenizer"] == {"name": "gpt2", "sha256": RANKS_SHA256} and meta["command"] == "jaxgpt prepare"
    assert meta["splits"]["val"]["tokens"] == 3 and meta["splits"]["val"]["documents"] == 1
    stored = []
    for shard in meta["splits"]["train"]["shards"]:
        content = (folder / shard["file"]).read_bytes()
        head = np.frombuffer(content[:1024], np.int32)
        assert head[:3].tolist() == [20240520, 1, shard["tokens"]] and not head[3:].any()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        stored += np.frombuffer(content[1024:], "<u2").tolist()
    assert stored == ids and meta["splits"]["train"]["tokens"] == len(ids)
    assert sorted(os.listdir(folder)) == [
        "meta.json",
        "train_000000.bin",
        "train_000001.bin",
        "train_000002.bin",
        "val_000000.bin",
    ]


@given(st.lists(st.integers(0, 65535), max_size=60), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_the_files_do_not_depend_on_how_the_tokens_are_cut(tmp_path_factory, ids, cuts, per_shard):
    whole, cut = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cut")
    one = shards.write(whole, "train", [np.array(ids, np.uint16)], per_shard)
    parts = np.split(np.array(ids, np.int64), sorted(cuts))
    assert shards.write(cut, "train", iter(parts), per_shard) == one
    assert [shard["tokens"] for shard in one] == [len(ids[i : i + per_shard]) for i in range(0, len(ids), per_shard)]
    for shard in one:
        assert (cut / shard["file"]).read_bytes() == (whole / shard["file"]).read_bytes()
    assert len(os.listdir(cut)) == len(one)


@given(st.integers(1, 60), st.integers(1, 20), st.data())
@settings(max_examples=60, deadline=None)
def test_tokens_are_sliced_like_one_array(tmp_path_factory, N, per_shard, data):
    ids = np.random.default_rng(N).integers(0, 50257, N).astype(np.uint16)
    tokens = shards.open_split(prepare_folder(tmp_path_factory.mktemp("a"), ids, per_shard=per_shard), "train")
    first, end = (data.draw(st.none() | st.integers(-N - 2, N + 2)) for _ in range(2))
    assert len(tokens) == N and tokens.dtype == np.uint16
    assert tokens[first:end].dtype == np.uint16 and tokens[first:end].tolist() == ids[first:end].tolist()
    low, high = sorted(data.draw(st.integers(0, N)) for _ in range(2))
    part = tokens.part(low, high)
    assert len(part) == high - low and part[first:end].tolist() == ids[low:high][first:end].tolist()
    assert part.fingerprint != tokens.fingerprint


def test_a_slice_within_a_shard_is_a_view(tmp_path):
    tokens = shards.open_split(prepare_folder(tmp_path / "a", range(20)), "train")
    assert np.shares_memory(tokens[7:14], tokens.shards[1]) and not tokens[7:14].flags.writeable
    assert not any(np.shares_memory(tokens[6:14], shard) for shard in tokens.shards)
    assert np.shares_memory(tokens.part(6, 14)[1:8], tokens.shards[1])
    with pytest.raises(ValueError, match="only contiguous tokens can be cut, not every 2"):
        tokens[::2]


def test_the_fingerprint_is_of_the_tokens_and_their_shards(tmp_path):
    def fingerprint(ids, name, per_shard=7):
        return shards.open_split(prepare_folder(tmp_path / name, ids, per_shard=per_shard), "train").fingerprint

    one = fingerprint(range(20), "a")
    assert one == fingerprint(range(20), "elsewhere")
    assert (
        len({one, fingerprint(range(19), "b"), fingerprint([*range(19), 50], "c"), fingerprint(range(20), "d", 6)}) == 4
    )


@pytest.mark.parametrize("ids", [[-1], [65536], [3, 70000]])
def test_ids_beyond_uint16_are_never_written(tmp_path, ids):
    with pytest.raises(ValueError, match="don't fit into uint16"):
        shards.write(tmp_path, "train", [np.array(ids)], 10)
    assert os.listdir(tmp_path) == []


def test_a_large_vocabulary_has_ids_of_four_bytes(tmp_path, monkeypatch):
    """In llm.c's format for Llama 3, read with numpy alone."""
    monkeypatch.setattr(GPT2Tokenizer, "vocab_size", 2**16 + 1)
    large, ids = GPT2Tokenizer(), np.array([65536, 0, 70000])
    written = shards.write(tmp_path, "train", [ids], 2, large.dtype)
    shards.write_meta(tmp_path, {"train": {"shards": written}}, large)
    raw = [np.fromfile(tmp_path / f"train_00000{i}.bin", "<i4") for i in range(2)]
    assert [each[:3].tolist() for each in raw] == [[20240801, 7, 2], [20240801, 7, 1]]
    assert [each[256:].tolist() for each in raw] == [[65536, 0], [70000]]
    tokens = shards.open_split(tmp_path, "train", large)
    assert tokens.dtype == tokens[:].dtype == np.uint32 and tokens[:].tolist() == ids.tolist()
    assert json.loads((tmp_path / "meta.json").read_text())["dtype"] == "uint32" and shards.verify(tmp_path) == 2
    monkeypatch.undo()
    with pytest.raises(DataError, match="corrupt: dtype 'uint32' for a vocabulary of 50,257, which has uint16 ids"):
        shards.open_split(tmp_path, "train")
    with pytest.raises(ValueError, match="don't fit into uint32"):
        shards.write(tmp_path, "val", [np.array([2**32])], 2, token_file.WIDE_TOKEN)


@pytest.mark.parametrize("per_shard", [0, 2**31])
def test_shards_too_large_for_the_header_are_refused(tmp_path, per_shard):
    with pytest.raises(ValueError, match="tokens_per_shard must be"):
        shards.write(tmp_path, "train", [], per_shard)


def test_a_killed_writer_leaves_no_partial_shard(tmp_path):
    def parts():
        yield np.arange(10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write(tmp_path, "train", parts(), 7)
    assert os.listdir(tmp_path) == ["train_000000.bin"]
    with pytest.raises(DataError, match=r"a folder without meta.json.* run the command that prepares it again"):
        shards.open_split(tmp_path, "train")


def changed(folder, **changes):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | changes))


def content(folder, change):
    path = folder / "train_000001.bin"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "meta.json").unlink(), "a folder without meta.json, which is written last"),
        (lambda f: (f / "meta.json").write_text("{"), "meta.json: can't be read"),
        (lambda f: (f / "meta.json").write_text("[]"), "meta.json: its format is not jaxgpt-tokens"),
        (lambda f: changed(f, format="other"), "meta.json: its format is not jaxgpt-tokens"),
        (lambda f: changed(f, version=2), "meta.json: version 2; only 1 is known"),
        (lambda f: changed(f, tokenizer={"name": "p50k"}), "meta.json: corrupt: it describes no tokenizer"),
        (lambda f: changed(f, tokenizer={"name": "p50k", "sha256": "a"}), "p50k .* and this is gpt2 .* --tokenizer "),
        (lambda f: changed(f, dtype="int64"), "meta.json: dtype 'int64'; only 'uint16' or 'uint32' is known"),
        (lambda f: changed(f, dtype="uint32"), "dtype 'uint32' for a vocabulary of 50,257, which has uint16 ids"),
        (lambda f: changed(f, splits=3), "meta.json: corrupt: it describes no splits"),
        (lambda f: changed(f, splits={"train": 3}), "meta.json: corrupt: its split 'train' describes no shards"),
        (
            lambda f: changed(f, splits={"train": {"shards": [{"file": "../x", "tokens": 1, "sha256": "0" * 64}]}}),
            "meta.json: corrupt: its split 'train'",
        ),
        (lambda f: changed(f, splits={"val": {}}), "there is no split 'train', only val; prepare it with such a split"),
        (lambda f: (f / "train_000001.bin").unlink(), "train_000001.bin: missing, though meta.json lists it"),
        (lambda f: content(f, lambda b: b[:-2]), "train_000001.bin: truncated or corrupt"),
        (
            lambda f: content(f, lambda b: token_file.header(1) + b[-2:]),
            "train_000001.bin: 1 token, and meta.json says 7",
        ),
        (lambda f: content(f, lambda b: b[:500]), "train_000001.bin: truncated"),
    ],
)
def test_a_corrupt_or_incomplete_folder_is_a_one_line_error(tmp_path, damage, message):
    folder = prepare_folder(tmp_path / "a", range(20))
    damage(folder)
    with pytest.raises(DataError, match=message) as raised:
        shards.open_split(folder, "train")
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)


def test_an_empty_split_does_not_exist(tmp_path):
    folder = prepare_folder(tmp_path / "a", range(20))
    with pytest.raises(DataError, match="no split 'val', only train; prepare it with such a split"):
        shards.open_split(folder, "val")
    assert shards.verify(folder) == 3


def test_only_verify_finds_a_flipped_bit(tmp_path):
    folder = prepare_folder(tmp_path / "a", range(20))
    content(folder, lambda b: b[:-1] + bytes([b[-1] ^ 1]))
    assert len(shards.open_split(folder, "train")) == 20
    with pytest.raises(DataError, match=r"train_000001.bin: corrupt: its SHA-256 is .*, not "):
        shards.verify(folder)


def test_an_encoder_reads_the_shards_of_its_texts_tokenizer(tmp_path):
    folder = prepare_folder(tmp_path / "a", [50256, 3, 4, 5], [50256, 6])
    assert shards.open_split(folder, "train", for_encoder(GPT2Tokenizer()))[:].tolist() == [50256, 3, 4, 5]
    with pytest.raises(DataError, match="prepared with the tokenizer gpt2"):
        shards.open_split(folder, "train", for_encoder(ByteTokenizer()))
