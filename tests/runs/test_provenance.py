import json

import pytest

from jaxgpt.runs.provenance import FILE, Provenance, describe, read_provenance


def test_an_export_says_where_it_is_from(tmp_path):
    run, export = tmp_path / "runs" / "a", tmp_path / "hf"
    for folder in (run, export):
        folder.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"fingerprint": "abc"}))
    provenance = describe(run, export, 300)
    assert provenance == Provenance("../runs/a", 300, "abc")  # nothing of the path above both
    (export / FILE).write_text(provenance.to_json())
    assert read_provenance(export) == provenance
    assert (export / provenance.run).resolve() == run.resolve()


BAD = ['{"format": 2, "run": "a", "step": 1, "data": ""}', '{"format": 1, "run": "a\\u0000", "step": 1, "data": ""}']


@pytest.mark.parametrize("text", ["", "3", "{}", '{"format": 1}', *BAD])
def test_what_is_no_provenance_is_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read_provenance(tmp_path) is None and read_provenance(tmp_path / "nowhere") is None
