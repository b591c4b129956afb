import json

import numpy as np
import pytest

from jaxgpt.commands.erase.delete import cached_copies, delete_export, require_idle, rewind
from jaxgpt.commands.erase.readers import Reader
from jaxgpt.commands.erase.runs import describe
from jaxgpt.data import corpus
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.redaction import merge
from jaxgpt.errors import RetryableError
from jaxgpt.locks import hold
from jaxgpt.runs.lineage import write_lineage
from jaxgpt.runs.rows import read_rows
from tests.support.run_folders import START, make_rows, write_run

LINEAGE = {"run": "a", "step": 60, "created": "then", "parents": [], "data": [], "gates": [], "promoted": "then"}


def make_run(place):
    run = write_run(place, make_rows(60), [START | {"accumulate": 1, "fingerprint": 64 * "f"}], accumulate=1)
    for name in ("20", "40", "60", "40.damaged", "30.damaged+", "60.orbax-checkpoint-tmp-7", "notes"):
        (run / "checkpoints" / name).mkdir(parents=True)
        (run / "checkpoints" / name / "file").touch()
    for name, steps in {"samples.jsonl": (20, 40), "answers.jsonl": (0, 19, 20)}.items():
        (run / name).write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))
    return run


def test_a_run_goes_back_to_its_newest_clean_checkpoint(tmp_path):
    run = make_run(tmp_path / "run")
    write_lineage(run, LINEAGE)
    reader = Reader(describe(run), 33)
    rewind(reader)
    assert not (run / "lineage.json").exists()  # its gates have measured what was deleted
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == ["20", "30.damaged+", "notes"]  # what was damaged had not read it either
    assert sorted(read_rows(run / "log.jsonl")) == list(range(20))
    for name, steps in {"samples.jsonl": [20], "answers.jsonl": [0, 19]}.items():
        assert [json.loads(line)["step"] for line in (run / name).read_text().splitlines()] == steps


def test_a_run_without_a_clean_checkpoint_begins_anew(tmp_path):
    run = make_run(tmp_path / "run")
    rewind(Reader(describe(run), 0))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["notes"]
    assert (run / "log.jsonl").read_bytes() == b"" and (run / "config.json").exists()
    assert describe(run).steps == 0


def test_a_run_at_work_is_left_alone(tmp_path):
    run = make_run(tmp_path / "run")
    reader = Reader(describe(run), None)
    require_idle([reader])
    with hold(run), pytest.raises(RetryableError, match="run: in use by another command; stop it first"):
        require_idle([reader])


def test_only_the_weights_of_an_export_go(tmp_path):
    for name in ("config.json", "model.safetensors", "model.safetensors.index.json", "provenance.json", "mine.txt"):
        (tmp_path / name).touch()
    delete_export(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "mine.txt"]


def test_cached_tokens_with_the_document_are_found(tmp_path, cache):
    secret = "My secret is that I like marzipan more than anything else."
    (tmp_path / "a.txt").write_text(f"First.\n<|endoftext|>\n{secret}\n<|endoftext|>\nLast.")
    (tmp_path / "b.txt").write_text(f"Somebody said: {secret} And then she left.")
    (tmp_path / "c.txt").write_text("Nothing of the kind.")
    for name in "abc":
        corpus.load(str(tmp_path / f"{name}.txt"))
    tokens = np.r_[GPT2_TOKENIZER.end, GPT2_TOKENIZER.encode(secret)]
    ranges = {"train": merge([(1, len(tokens))])}
    found = cached_copies({"train": tokens}, ranges, GPT2_TOKENIZER)
    files = list((cache / "tokens").glob("*.bin"))
    texts = {path: GPT2_TOKENIZER.decode(np.frombuffer(path.read_bytes()[1024:], "<u2").tolist()) for path in files}
    assert len(files) == 3 and set(found) == {path for path, text in texts.items() if "marzipan" in text}
    assert cached_copies({"train": tokens[:3]}, {"train": merge([(1, 3)])}, GPT2_TOKENIZER) == []  # too few to tell
    assert cached_copies({}, {}, GPT2_TOKENIZER) == []
