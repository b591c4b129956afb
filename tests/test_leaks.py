import json

import pytest
from datatrove.data import Document

from jaxgpt import leaks
from jaxgpt.errors import DataError


def test_what_leaks_an_evaluation_is_dropped(tmp_path):
    """13 words in a row, whatever their case and punctuation; 12 are no leak."""
    question = "how many metres taller did the builders make the new pier after that storm"
    words = question.split()
    records = [{"prompt": " ".join(words[:8]), "completion": " ".join(words[8:])}]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert leaks.index((tmp_path / "eval.jsonl",), tmp_path / "index") == len(words) - 12
    leak = f"So: {' '.join(words[1:]).upper()}, they asked."
    none = f"So: {' '.join(words[:12])} in the end."
    data = (Document(text, "", metadata={"file": "f", "unit": 0, "line": i}) for i, text in enumerate((leak, none)))
    step = leaks.decontaminate(tmp_path / "index", tmp_path / "work")
    assert [document.text for document in step.run(data)] == [none]
    (record,) = (tmp_path / "work" / "dropped" / "00000" / "decontaminate.jsonl").read_text().splitlines()
    assert (json.loads(record)["line"], json.loads(record)["detail"]) == (0, "0 eval.jsonl")
    (tmp_path / "eval.txt").write_text(" ".join(words[:12]))
    with pytest.raises(DataError, match=r"eval\.txt: no text of 13 words in it"):
        leaks.index((tmp_path / "eval.txt",), tmp_path / "index")
