import json

import pytest
from datatrove.data import Document

from jaxgpt.prepare.drop_log import DropLog, ReadSurvivors, WriteSurvivors, write_json


def lines(work):
    return {path.relative_to(work).as_posix(): path.read_text().splitlines() for path in work.rglob("*.jsonl")}


def test_a_restarted_task_overwrites_its_log(tmp_path):
    location = {"file": "a", "unit": 0, "line": 7, "other": 1}
    drop_log = DropLog(tmp_path, "step")
    for tries in range(2):
        with drop_log:
            drop_log.add(3, location, "why", f"try {tries}")
            drop_log.write(Document("text", "", metadata=location | {"filter_reason": "another"}), 3)
    with drop_log:
        drop_log.write(Document("text", "", metadata=location), 4)
    first, second = map(json.loads, lines(tmp_path)["dropped/00003/step.jsonl"])
    assert first == {"file": "a", "unit": 0, "line": 7, "step": "step", "reason": "why", "detail": "try 1"}
    assert second["reason"] == "another" and "detail" not in second
    assert json.loads(lines(tmp_path)["dropped/00004/step.jsonl"][0])["reason"] == "dropped"


def test_survivors_are_read_as_they_were_written(tmp_path):
    texts = ["plain", "two\nlines\u2028three", "é\U0001f600\x00", ""]
    documents = [Document(text, "", metadata={"file": "a", "unit": i, "line": i}) for i, text in enumerate(texts)]
    assert list(WriteSurvivors(tmp_path).run(iter(documents), 5)) == documents
    assert list(WriteSurvivors(tmp_path).run(iter([]), 6)) == list(ReadSurvivors(tmp_path).run(None, 6)) == []
    assert list(ReadSurvivors(tmp_path).run(None, 5)) == documents


def test_json_is_written_completely_or_not_at_all(tmp_path):
    write_json(tmp_path / "sub" / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "sub" / "a.json", {"a": object()})
    assert json.loads((tmp_path / "sub" / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.json"]  # no half of the second
