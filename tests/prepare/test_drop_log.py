import json

import pytest
from datatrove.data import Document

from jaxgpt.prepare.drop_log import Journal, Keep, Kept, write_json


def lines(work):
    return {path.relative_to(work).as_posix(): path.read_text().splitlines() for path in work.rglob("*.jsonl")}


def test_a_task_that_begins_again_writes_over_its_first_try(tmp_path):
    place = {"file": "a", "unit": 0, "line": 7, "other": 1}
    journal = Journal(tmp_path, "step")
    for tries in range(2):
        with journal:
            journal.line(3, place, "why", f"try {tries}")
            journal.write(Document("text", "", metadata=place | {"filter_reason": "another"}), 3)
    with journal:
        journal.write(Document("text", "", metadata=place), 4)
    first, second = map(json.loads, lines(tmp_path)["dropped/00003/step.jsonl"])
    assert first == {"file": "a", "unit": 0, "line": 7, "step": "step", "reason": "why", "detail": "try 1"}
    assert second["reason"] == "another" and "detail" not in second
    assert json.loads(lines(tmp_path)["dropped/00004/step.jsonl"][0])["reason"] == "dropped"


def test_documents_that_are_kept_come_back(tmp_path):
    texts = ["plain", "two\nlines\u2028three", "é\U0001f600\x00", ""]
    documents = [Document(text, "", metadata={"file": "a", "unit": i, "line": i}) for i, text in enumerate(texts)]
    assert list(Keep(tmp_path).run(iter(documents), 5)) == documents
    assert list(Keep(tmp_path).run(iter([]), 6)) == list(Kept(tmp_path).run(None, 6)) == []
    assert list(Kept(tmp_path).run(None, 5)) == documents


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "sub" / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "sub" / "a.json", {"a": object()})
    assert json.loads((tmp_path / "sub" / "a.json").read_text()) == {"a": 1}
