import json
import time

import pytest
from datatrove.data import Document

from jaxgpt.errors import DataError
from jaxgpt.prepare import decontaminate, sources


def build_index(files, folder):
    """Index the files, and give the number of sequences."""
    sequences = decontaminate.find_sequences(files)
    decontaminate.write_index(sequences, folder)
    return sum(map(len, sequences.values()))


def test_documents_with_text_of_an_evaluation_are_dropped(tmp_path):
    """13 words in a row, whatever their case and punctuation; 12 are no leak."""
    question = "how many metres taller did the builders make the new pier after that storm"
    words = question.split()
    records = [{"prompt": " ".join(words[:8]), "completion": " ".join(words[8:])}]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert build_index((tmp_path / "eval.jsonl",), tmp_path / "index") == len(words) - 12
    leak = f"So: {' '.join(words[1:]).upper()}, they asked."
    none = f"So: {' '.join(words[:12])} in the end."
    data = (Document(text, "", metadata={"file": "f", "unit": 0, "line": i}) for i, text in enumerate((leak, none)))
    step = decontaminate.decontaminate(tmp_path / "index", tmp_path / "work")
    assert [document.text for document in step.run(data)] == [none]
    (record,) = (tmp_path / "work" / "dropped" / "00000" / "decontaminate.jsonl").read_text().splitlines()
    assert (json.loads(record)["line"], json.loads(record)["detail"]) == (0, "0 eval.jsonl")
    (tmp_path / "eval.txt").write_text(" ".join(words[:12]))
    with pytest.raises(DataError, match=r"eval\.txt: no text of 13 words in it"):
        build_index((tmp_path / "eval.txt",), tmp_path / "index")


def test_a_deep_record_is_read_as_fast_as_a_flat_one():
    """And its strings come in their order."""
    strings = [str(n) for n in range(100_000)]
    deep = {"a": [strings[0], {"b": strings[1:-1]}], "c": strings[-1]}
    for _ in range(900):
        deep = [deep]
    start = time.process_time()
    assert list(decontaminate._strings(deep)) == strings
    assert time.process_time() - start < 1  # 0.01 s; a generator for each depth takes 2


def test_all_of_an_evaluation_file_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CUT_BYTES", 200)
    monkeypatch.setattr(sources, "PIECE_BYTES", 200)
    lines = [" ".join(f"w{i}x{j}" for j in range(14)) for i in range(50)]
    (tmp_path / "eval.txt").write_text("\n".join(lines))
    assert build_index((tmp_path / "eval.txt",), tmp_path / "index") >= 100
    data = iter([Document("so " + lines[-1], "", metadata={"file": "f", "unit": 0, "line": 1})])
    assert list(decontaminate.decontaminate(tmp_path / "index", tmp_path / "work").run(data)) == []
    (tmp_path / "eval.txt").write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match="not UTF-8 near line 1"):
        build_index((tmp_path / "eval.txt",), tmp_path / "index")
    (tmp_path / "eval.jsonl").write_text('{"question": "half \\ud83d"}')
    with pytest.raises(DataError, match="line 1: a lone surrogate"):
        build_index((tmp_path / "eval.jsonl",), tmp_path / "index")
