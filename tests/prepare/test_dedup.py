import dataclasses
import json
import random
import tracemalloc

import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.exact_dedup import ExactDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashDedupSignature
from datatrove.utils.text import TextNormConfig

from jaxgpt.data import shards
from jaxgpt.errors import DataError
from jaxgpt.prepare import dedup
from jaxgpt.prepare.drop_log import DropLog, ReadSurvivors, WriteSurvivors
from jaxgpt.prepare.words import WORDS


def document(seed, words=150):
    """Words of random letters."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(words))


def deduplicate(tmp_path, parts, near=False, earlier=None):
    """The texts of each task that survive the steps of a preparation."""
    work = tmp_path / f"work{len(list(tmp_path.iterdir()))}"

    def start(rank):
        return (Document(text, "", metadata={"file": "f", "unit": 0, "line": i}) for i, text in enumerate(parts[rank]))

    for rank in range(len(parts)):
        list(dedup.exact_signatures(work).run(WriteSurvivors(work).run(start(rank), rank), rank))
    dedup.find_exact(work, earlier).run(None)
    if near:
        for rank in range(len(parts)):
            dedup.near_signatures(work).run(
                dedup.drop_exact(work, None).run(ReadSurvivors(work).run(None, rank), rank), rank
            )
        for bucket in range(14):
            dedup.near_buckets(work, earlier).run(None, bucket, 14)
        dedup.near_clusters(work).run(None)
    left = []
    for rank in range(len(parts)):
        data = dedup.drop_exact(work, DropLog(work, "exact")).run(ReadSurvivors(work).run(None, rank), rank)
        if near:
            data = dedup.drop_near(work, DropLog(work, "near")).run(data, rank)
        left.append([each.text for each in data])
    return work, left


def test_one_of_several_exact_copies_is_kept(tmp_path):
    a, b, c, d = map(document, "abcd")
    work, left = deduplicate(tmp_path, [[a, b, a, "short"], [], [c, b, "short"], [d, d, a + " "]])
    texts = [text for part in left for text in part]
    assert sorted(texts) == sorted({a, b, c, d, "short", a + " "}) and left[1] == []
    journals = [json.loads(line) for path in work.rglob("exact.jsonl") for line in path.read_text().splitlines()]
    assert len(journals) == 4


def test_a_long_text_has_the_signature_that_all_its_hashes_at_once_have(tmp_path):
    """It takes a bounded memory: datatrove's would take 54 MB of 30,000 words."""
    config = dataclasses.replace(dedup.MINHASH, norm_config=TextNormConfig(norm_numbers=False))
    step, theirs = dedup.near_signatures(tmp_path), MinhashDedupSignature(str(tmp_path), config, WORDS)
    for words in (6, dedup.SHINGLES + 4, 30_000):
        text = " ".join(map(str, range(words))) + "a\u0301\u0323"
        shingles = step.get_shingles(text)
        tracemalloc.start()
        signature = step.get_signature(shingles)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert signature == theirs.get_signature(theirs.get_shingles(text)) and peak < 20e6


def test_one_of_several_near_copies_is_kept_and_other_texts_are_not_touched(tmp_path):
    """A word of 150 changed leaves 141 of 151 5-grams: found with a probability above 0.999; half a text is not."""
    originals = [document(i) for i in range(8)]
    changed = [text.replace(text.split()[70], "another") for text in originals]
    half = [" ".join([*text.split()[:75], *document(f"other {i}", 75).split()]) for i, text in enumerate(originals)]
    _, left = deduplicate(
        tmp_path, [originals[:4] + changed[4:], originals[4:] + half, changed[:4] + originals[:2]], near=True
    )
    texts = [text for part in left for text in part]
    assert all((original in texts) + (near in texts) == 1 for original, near in zip(originals, changed, strict=True))
    assert [text for text in texts if text in half] == half and len(texts) == 16


def test_texts_with_other_numbers_are_no_copies(tmp_path):
    days = [
        " ".join(f"on day {day} at {hour} it was {day * hour} degrees" for hour in range(12)) for day in range(90, 99)
    ]
    _, left = deduplicate(tmp_path, [days], near=True)
    assert left == [days]


@pytest.mark.parametrize("near", [False, True])
def test_texts_of_an_earlier_folder_and_those_before_it_are_dropped(tmp_path, near):
    texts = [document(i) for i in range(6)]
    for number, part in enumerate(([texts[0], texts[1]], [texts[2], texts[0]], [])):
        folder, index = tmp_path / f"folder{number}", tmp_path / f"folder{number}" / "index"
        (folder / "index").mkdir(parents=True)
        if number:
            dedup.copy_index(tmp_path / f"folder{number - 1}", near, index)
        if part:
            work, left = deduplicate(tmp_path, [part, []], near, index if number else None)
            assert left == [[text for text in part if not (number and text == texts[0])], []]
            dedup.index_exact(work, index, str(number)).run()
            for bucket in range(14 if near else 0):
                dedup.index_near(work, index, str(number)).run(None, bucket, 14)
    close = texts[1].replace(texts[1].split()[70], "another")
    _, left = deduplicate(
        tmp_path, [[texts[3], texts[0]], [texts[1], texts[2], texts[3], close]], near, tmp_path / "folder2" / "index"
    )
    assert sorted(text for part in left for text in part) == sorted([texts[3], *([] if near else [close])])


def test_a_folder_without_an_index_is_refused(tmp_path):
    (tmp_path / "index" / "exact").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a folder without meta\.json, which is written last: if it is being"):
        dedup.require_index(tmp_path, False)
    shards.write_meta(tmp_path, {})  # as an older version did
    dedup.require_index(tmp_path, False)
    with pytest.raises(DataError, match="no index of near duplicates there; prepare it with --dedup minhash"):
        dedup.require_index(tmp_path, True)


def test_a_damaged_index_is_refused(tmp_path):
    """One byte is another, the end is missing, nothing is left, or the file is gone."""
    for kind in ("exact", "near/bucket_000"):
        for made in ("earlier", "index"):
            (tmp_path / "work" / made / kind).mkdir(parents=True)
            (tmp_path / "work" / made / kind / f"{made}.index").write_bytes(random.Random(made).randbytes(64))
    index = tmp_path / "index"
    shards.write_meta(tmp_path, {}, index=dedup.write_index(tmp_path / "work", index))
    dedup.require_index(tmp_path, True)
    for kind, near in (("exact", False), ("exact", True), ("near/bucket_000", True)):
        for path in sorted((index / kind).iterdir()):
            content = path.read_bytes()
            for damaged in (content[:9] + b"\0" + content[10:], content[:-8], b"", None):
                path.unlink() if damaged is None else path.write_bytes(damaged)
                with pytest.raises(
                    DataError, match=f"^{path}: missing or corrupt: it is not what meta.json lists, so "
                ):
                    dedup.require_index(tmp_path, near)
                path.write_bytes(content)
    (index / "near" / "bucket_000" / "index.index").write_bytes(b"")
    dedup.require_index(tmp_path, False)  # which does not read it


def test_the_copy_of_a_read_only_index_can_be_written_to(tmp_path):
    path = tmp_path / "old" / "index" / "exact" / "a.index"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"12345678")
    path.chmod(0o444)
    path.parent.chmod(0o555)
    dedup.copy_index(tmp_path / "old", False, tmp_path / "work" / "earlier")
    assert dedup.write_index(tmp_path / "work", tmp_path / "index").keys() == {"exact/a.index"}
    copies = [copy for name in ("work", "index") for copy in (tmp_path / name).rglob("*")]
    assert len(copies) == 5 and all(copy.stat().st_mode & 0o200 for copy in copies)
    path.parent.chmod(0o755)


def test_signatures_in_parts_are_those_of_the_whole(tmp_path, monkeypatch):
    """Against datatrove's own steps, which take all of a document, and all of a task's signatures, at once."""
    texts = [" ".join(str(hash((n, word)) % 999) for word in range(5 + 40 * n)) for n in range(9)] * 3
    step = MinhashDedupSignature(str(tmp_path / "whole"), dedup.MINHASH, WORDS)
    shingles = [step.get_shingles(text) for text in texts]
    monkeypatch.setattr(dedup, "SHINGLES", 16)
    parts = dedup.near_signatures(tmp_path)
    assert [parts.get_signature(each) for each in shingles] == [step.get_signature(each) for each in shingles]
    monkeypatch.setattr(dedup, "BUFFER_SIGNATURES", 4)
    documents = [Document(text, "") for text in texts]
    assert list(dedup.exact_signatures(tmp_path).run(iter(documents))) == documents
    ExactDedupSignature(str(tmp_path / "whole"), dedup.EXACT).run(iter(documents))
    written = (tmp_path / "exact" / "signatures" / "0000" / "00000.c4_sig").read_bytes()
    assert written == (tmp_path / "whole" / "0000" / "00000.c4_sig").read_bytes() and len(written) == 14 * len(texts)
