"""The look at a prepared folder: what is printed and written, against the same counted one by one."""

import collections
import itertools
import json
import statistics

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import inspect
from jaxgpt.commands.inspect import find_examples, inspect_folder
from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.errors import DataError, UsageError
from jaxgpt.reports.cards import render_data_card
from jaxgpt.runs.folder import CONFIG_KEYS

TEXTS = [f"The {n}th of them, [bold]{'la ' * n}</pre>\x1b[31m" for n in range(60)]
REPORT = {
    "records": 75,
    "broken": 2,
    "bytes": 10_000,
    "steps": [
        {"name": "unicode", "changed": 11, "dropped": {}},
        {"name": "quality", "changed": 0, "dropped": {"too short": 4, "[repeated] lines": 9}},
    ],
    "pii": {"email": 1234, "phone": 0},
    "canaries": 0,
    "kept": {"documents": 60, "tokens": 5},
}
DROPS = [
    {"file": "a.jsonl", "line": 7, "step": "quality", "reason": "too short"},
    {"file": "[red]b.jsonl", "line": 3, "step": "quality", "reason": "[repeated] lines"},
    {"file": "b.jsonl", "line": 9, "step": "quality", "reason": "too short"},
]


@pytest.fixture
def folder(tmp_path):
    """50 documents of train in three shards, 10 of val, and what was said of the records that they come from."""
    splits = {}
    for name, texts in (("train", TEXTS[:50]), ("val", TEXTS[50:]), ("test", [])):
        ids = [np.array([encoding().eot_token, *encoding().encode_ordinary(text)]) for text in texts]
        written = shards.write(tmp_path, name, ids, 1000)
        splits[name] = {"documents": len(texts), "text_bytes": len("".join(texts)), "shards": written}
    shards.write_meta(tmp_path, splits)
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    (tmp_path / "dropped.jsonl").write_text("".join(json.dumps(each) + "\n" for each in DROPS))
    return tmp_path


def rows(out):
    """The cells of each row of each table."""
    lines = [line.replace("┃", "│").split("│")[1:-1] for line in out.splitlines() if line[:1] in ("│", "┃")]
    return [tuple(cell.strip() for cell in line) for line in lines]


def test_it_says_what_is_there(folder, capsys):
    inspect_folder(folder, show_text=True)
    out = capsys.readouterr().out
    found = rows(out)
    ids = [encoding().encode_ordinary(text) for text in TEXTS]
    lengths = [len(each) + 1 for each in ids]
    for name, part, number in (("train", slice(50), "3"), ("val", slice(50, 60), "1")):
        count, size = sum(lengths[part]), len("".join(TEXTS[part]))
        assert (name, str(len(lengths[part])), f"{count:,}", f"{size:,}", f"{size / count:.2f}", number) in found
        quantiles = [np.quantile(lengths[part], q, method="inverted_cdf") for q in (0, 0.25, 0.5, 0.75, 0.99, 1)]
        mean = f"{statistics.mean(lengths[part]):,.1f}"
        assert (name, *map(str, quantiles), mean, f"{count:,} tokens") in found
    assert ("test", "0", "0", "0", "-", "0") in found
    counts = collections.Counter(token for each in ids[:50] for token in [encoding().eot_token, *each])
    ((token, number),) = counts.most_common(1)
    share = f"{number / counts.total():.2%}"
    assert (repr(encoding().decode([token])), f"{token:,}", f"{number:,}", share) in found
    assert ("quality", "0", "13", "", "") in found and ("unicode", "11", "0", "", "") in found
    assert ("", "", "4", "too short", "a.jsonl, line 7") in found
    assert ("", "", "9", "[repeated] lines", "[red]b.jsonl, line 3") in found
    assert {("read", "75"), ("broken, not read", "2"), ("dropped", "13"), ("email", "1,234")} <= set(found)
    assert "\x1b" not in out and "[bold]la la" in out and out.count("th of them") == 5
    assert f"saved     {folder}/report.html" in out
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 3 and "</pre>\\x1b" not in text and "&lt;/pre&gt;\\x1b[31m" in text


def test_nothing_of_the_texts_is_shown_unless_it_is_asked_for(folder, capsys):
    inspect_folder(folder)
    out = capsys.readouterr().out
    (begin,) = [i for i, row in enumerate(rows(out)) if row[0] == "begins at token"]
    documents = [tuple(int(cell.replace(",", "")) for cell in row) for row in rows(out)[begin + 1 : begin + 6]]
    lengths = [len(encoding().encode_ordinary(text)) + 1 for text in TEXTS[:50]]
    starts = [0, *itertools.accumulate(lengths)]
    assert set(documents) <= set(zip(starts, lengths, strict=False)) and len(set(documents)) == 5
    page = (folder / "report.html").read_text()
    assert not any(word in out + page for word in ("la ", "la'", "th of them", "Some documents"))
    assert "the most frequent tokens of train" in out and ("id", "times", "share") in rows(out)


def test_the_page_where_it_is_wanted_and_other_documents_with_another_seed(folder, tmp_path, capsys):
    outs = []
    for seed in (0, 0, 1):
        (tmp_path / "page.html").unlink(missing_ok=True)
        inspect_folder(folder, tmp_path / "page.html", seed)
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1] != outs[2]
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600
    assert not (folder / "report.html").exists()


def test_what_is_wrong_is_one_line(folder, monkeypatch):
    def refused(error, message):
        with pytest.raises(error) as caught:
            inspect_folder(folder)
        assert message in str(caught.value) and "\n" not in str(caught.value)

    with pytest.raises(UsageError, match=r"meta.json: give the page a name that ends in .html$"):
        inspect_folder(folder, folder / "meta.json")
    with pytest.raises(UsageError, match=r"nowhere/a.html: No such file"):
        inspect_folder(folder, folder / "nowhere" / "a.html")
    (folder / "dropped.jsonl").write_text('{"file": 1}\n')
    refused(DataError, "dropped.jsonl: can't be read (KeyError('step'))")
    (folder / "dropped.jsonl").write_text("[" * 10**5)
    refused(DataError, "dropped.jsonl: can't be read (ValueError('nested more than 50 levels")
    (folder / "dropped.jsonl").unlink()
    assert find_examples(folder / "dropped.jsonl") == {}
    for change in (
        *({"records": "7"}, {"steps": [{}]}, {"pii": [1]}, {"kept": None}, {"broken": -1}, {"bytes": 10**400}),
        {"pii": dict.fromkeys(map(str, range(1001)), 1)},
    ):
        (folder / "report.json").write_text(json.dumps(REPORT | change))
        refused(DataError, "report.json: corrupt")
    for content in ("[", "[" * 10**5, ""):
        (folder / "report.json").write_text(content)
        refused(DataError, "report.json: corrupt")
    (folder / "report.json").unlink()
    refused(DataError, "report.json: no such file")
    meta = json.loads((folder / "meta.json").read_text())
    del meta["splits"]["val"]["documents"]
    (folder / "meta.json").write_text(json.dumps(meta))
    refused(DataError, "incomplete for split 'val'")
    (folder / "meta.json").unlink()
    refused(DataError, "a folder without meta.json")


@pytest.mark.parametrize(
    "words, code, message",
    [
        ([], 2, "not given: FOLDER; --help lists the flags"),
        (["nowhere"], 3, "nowhere: "),
        (["nowhere", "--seed", "-1"], 2, "--seed -1 is out of range: it must be from 0 to 2**31 - 1"),
        (["{folder}", "--license", "mit"], 2, "--license needs --card, which has it"),
        (
            ["{folder}", "--card", "--show-text"],
            2,
            "--card is text without documents; leave out",
        ),
        (["{folder}", "--card", "--license", "My own"], 2, "--license My own: give its name on the hub, such as mit"),
        (["{folder}", "--html", "{folder}/page"], 2, "--html {folder}/page: give the page a name that ends in .html"),
    ],
)
def test_a_wrong_flag_is_one_line(folder, words, code, message, capsys):
    assert console.run(inspect.main, [word.format(folder=folder) for word in words]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: " + message.format(folder=folder))


def test_the_command_prints_a_card(folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert console.run(inspect.main, [str(folder), "--card"]) == 0
    assert capsys.readouterr().out == render_data_card(folder, shards.read_meta(folder), REPORT)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_the_command_shows_the_folder(folder, tmp_path, capsys):
    assert console.run(inspect.main, [str(folder), "--seed", "3", "--html", str(tmp_path / "page.html")]) == 0
    said, page = capsys.readouterr().out, (tmp_path / "page.html").read_bytes()
    with pytest.raises(UsageError, match=r"--html .*/page.html: exists already; choose another file$"):
        inspect_folder(folder, tmp_path / "page.html", 4)
    assert (tmp_path / "page.html").read_bytes() == page
    (tmp_path / "page.html").write_bytes(b"")
    inspect_folder(folder, tmp_path / "page.html", 3)
    assert capsys.readouterr().out == said and "of train, drawn with seed 3" in said


def test_the_lineage_of_a_run_is_printed_and_a_folder_of_text_has_none(folder, tmp_path, capsys):
    (run := tmp_path / "run").mkdir()
    config = dict.fromkeys(CONFIG_KEYS) | {"base": "gpt2\x1b[31m", "init_from": "gpt2"}
    (run / "config.json").write_text(json.dumps(config))
    assert console.run(inspect.main, [str(run), "--lineage"]) == 0
    assert capsys.readouterr().out == f"{run}\n└── gpt2\\x1b[31m\n"
    (run / "lineage.json").write_text("{")
    for words, code, error in (
        ([run], 4, "lineage.json: corrupt: "),
        ([folder], 4, "not a run that has begun; --lineage takes a run folder"),
        ([run, "--html", tmp_path / "page.html"], 2, "--lineage shows a run, and --html"),
    ):
        assert console.run(inspect.main, [*map(str, words), "--lineage"]) == code
        assert error in capsys.readouterr().err
