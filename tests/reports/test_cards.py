"""A data card against the folder that it is of, and read by the hub's own parser."""

import json
import re

import numpy as np
import pytest

from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.errors import DataError, UsageError
from jaxgpt.reports.cards import render_data_card, require_licence

TEXTS = [f"The {n}th of them" for n in range(12)]
FLAGS = {"inputs": ["hf://owner/name", "a|b.txt"], "clean": ["unicode"], "language": ["en", "de"], "dedup": "minhash"}
FLAGS |= {"pii": "replace", "val": 0.25, "seed": 7, "decontaminate": []}
REPORT = {"records": 20, "broken": 2, "bytes": 10_000, "pii": {"email": 1234}, "canaries": 3}
REPORT |= {"kept": {"documents": 12, "tokens": 99}}
REPORT |= {"steps": [{"name": "unicode", "changed": 11, "dropped": {}}]}
REPORT["steps"] += [{"name": "near", "changed": 0, "dropped": {"nearly <the> same": 5, "other": 1}}]


def read_tables(card):
    """The cells of each row of each table, by the first cell, without escapes."""
    rows = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in card.splitlines() if line.startswith("| ")]
    return {row[0].replace("\\", ""): [cell.replace("\\", "") for cell in row[1:]] for row in rows}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x").mkdir()
    splits = {}
    for name, texts in (("train", TEXTS[:9]), ("val", TEXTS[9:]), ("test", [])):
        ids = [np.array([encoding().eot_token, *encoding().encode_ordinary(text)]) for text in texts]
        written = shards.write(tmp_path / "x", name, ids, 20)
        splits[name] = {"documents": len(texts), "text_bytes": len("".join(texts)), "shards": written}
    shards.write_meta(tmp_path / "x", splits, command="jaxgpt prepare a --out x", flags=FLAGS, inputs="f00d")
    return tmp_path / "x"


def render(folder, licence=None, **more):
    return render_data_card(folder, shards.read_meta(folder) | more, REPORT, licence)


def test_its_numbers_are_those_of_the_folder(folder):
    card = render(folder, "cc-by-4.0")
    rows, meta = read_tables(card), json.loads((folder / "meta.json").read_text())
    for name in ("train", "val"):
        split = meta["splits"][name]
        numbers = [str(split[key]) for key in ("documents", "tokens", "text_bytes")] + [str(len(split["shards"]))]
        assert rows[name] == [*numbers, shards.open_split(folder, name).fingerprint]
    assert rows["test"] == ["0", "0", "0", "0", "-"]
    assert rows["unicode"] == ["11", "0", "-"] and rows["near"] == ["0", "6", "nearly &lt;the&gt; same: 5, other: 1"]
    assert rows["found: email"] == ["1,234"] and rows["personal data"] == ["replaced by its kind"]
    assert rows["input"] == ["hf:&sol;&sol;owner/name, a|b.txt"] and rows["command"] == ["jaxgpt prepare a --out x"]
    assert rows["--val"] == ["0.25"] and rows["--decontaminate"] == ["none"] and rows["versions"] == ["not recorded"]
    assert rows["tokenizer"] == ["gpt2"] and rows["made-up secrets planted (canaries)"] == ["3"]
    assert "- **Curated by:** not recorded" in card and "- **License:** cc-by-4.0" in card and "of them" not in card
    assert card == render(folder, "cc-by-4.0")


def test_the_hub_reads_its_front_matter(folder):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.DatasetCard(render(folder, "mit")).data.to_dict()
    expected = {"license": "mit", "language": ["en", "de"], "pretty_name": "x", "size_categories": ["n<1K"]}
    assert data == expected | {"tags": ["jaxgpt"]}
    assert "license" not in huggingface_hub.DatasetCard(render(folder)).data.to_dict()


def test_what_was_erased_afterwards(folder):
    assert "### Erased Afterwards\n\nNothing." in render(folder)
    split = {"fingerprint": "its own before", "documents": 1, "text_bytes": 3}
    erasures = [{"time": "then", "splits": {"train": split | {"ranges": [[3, 4], [5, 6]]}}}]
    assert "| train | 1 | 2 | 2 |" in render(folder, erasures=erasures)
    erasures[0]["splits"]["train"]["ranges"] = [[6, 3]]
    with pytest.raises(DataError, match="corrupt: its erasures are no ranges"):
        render(folder, erasures=erasures)


def test_a_folder_that_records_nothing_of_itself_says_so(folder):
    meta = shards.read_meta(folder) | {"flags": ["pii"], "command": None, "inputs": None}
    rows = read_tables(render_data_card(folder, meta, REPORT))
    assert rows["input"] == rows["personal data"] == rows["command"] == ["not recorded"]


def test_a_licence_has_a_name_of_the_hub():
    for name in ("mit", "apache-2.0", "cc-by-nc-4.0", "other", None):
        require_licence(name)
    for name in ("", "MIT", "my licence", "a\nb: c", "-x", "x" * 65):
        with pytest.raises(UsageError, match="give its name on the hub"):
            require_licence(name)
