import itertools

import numpy as np
from datatrove.data import Document

from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.prepare import canaries, tokenize

TEXTS = [f"Document number {i}, which says é and <|endoftext|> {'and more ' * (i % 7)}." for i in range(200)]


def tokenize_texts(work, texts, val, tasks):
    """Write the texts' tokens in `tasks` tasks."""
    for rank, part in enumerate(np.array_split(np.arange(len(texts)), tasks)):
        place = {"file": "f", "unit": 0, "line": 1}
        data = (Document(texts[i], "", metadata=place) for i in part)
        tokenize.Tokenize(work, val).run(data, rank)


def documents(folder, split):
    """The documents of a split, from its files by hand."""
    files = sorted(folder.glob(f"{split}_*.bin"))
    ids = np.concatenate([np.fromfile(file, "<u2", offset=1024) for file in files] or [[]]).astype(int)
    return [encoding().decode(list(part)) for part in np.split(ids, np.flatnonzero(ids == 50256)) if len(part)]


def test_the_shards_are_the_documents_in_their_order(tmp_path):
    for tasks in (1, 3):
        work, folder = tmp_path / f"work{tasks}", tmp_path / f"out{tasks}"
        folder.mkdir()
        tokenize_texts(work, TEXTS, 0.2, tasks)
        splits = tokenize.collect(work, folder, tasks, [], 1000)
        shards.write_meta(folder, splits)
        validation = [text for text in TEXTS if tokenize.is_validation(text.encode(), 0.2)]
        for split, texts in (("val", validation), ("train", [text for text in TEXTS if text not in validation])):
            assert documents(folder, split) == ["<|endoftext|>" + text for text in texts]
            count = splits[split]
            assert count["documents"] == len(texts) and count["text_bytes"] == len("".join(texts).encode())
            assert count["tokens"] == len(shards.open_split(folder, split))
        assert 20 < len(validation) < 60
    assert {path.name: path.read_bytes() for path in (tmp_path / "out1").glob("*.bin")} == {
        path.name: path.read_bytes() for path in (tmp_path / "out3").glob("*.bin")
    }


def test_more_data_moves_no_document_to_the_other_split():
    for share in (0.0, 0.1, 0.5):
        validation = [tokenize.is_validation(text.encode(), share) for text in TEXTS]
        assert abs(sum(validation) - share * len(TEXTS)) < 4 * (share * (1 - share) * len(TEXTS)) ** 0.5 + 1e-9
        larger = [tokenize.is_validation(text.encode(), 0.5) for text in TEXTS]
        assert all(itertools.compress(larger, validation))  # which has all of a smaller one


def test_canaries_are_spread_among_the_documents(tmp_path):
    planted = canaries.plant(5, seed=1)
    tokenize_texts(tmp_path / "work", TEXTS, 0.0, 4)
    splits = tokenize.collect(tmp_path / "work", tmp_path, 4, planted, 10**6)
    texts = [text.removeprefix("<|endoftext|>") for text in documents(tmp_path, "train")]
    copies = [canary.text for canary in planted for _ in range(canary.repeats)]
    assert [text for text in texts if text not in copies] == TEXTS
    assert sorted(text for text in texts if text in copies) == sorted(copies)
    places = [i for i, text in enumerate(texts) if text in copies]
    assert np.ptp(places) > len(texts) / 2 and len(set(np.diff(places))) > 3
    assert splits["train"]["documents"] == len(texts) and splits["val"]["documents"] == 0


def test_a_document_with_a_blank_of_any_length_is_kept(tmp_path):
    tokenize_texts(tmp_path, ["a", " " * 1_500_000 + "b", "c"], 0.0, 1)
    ids = np.fromfile(tmp_path / "tokens" / "00000.train.bin", "<u2")
    assert ids.tolist() == [50256, 64, 50256, *[220] * 1_499_999, 275, 50256, 66]
