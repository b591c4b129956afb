"""Examples from files: what of them becomes arrays, and every wrong record by its line."""

import os

import numpy as np
import pytest

from jaxgpt.data import datasets, examples
from jaxgpt.data.config import FieldNames
from jaxgpt.data.examples import epoch_order, next_examples
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.errors import DataError

END = 50256


def ids(text):
    return encoding().encode_ordinary(text)


def rows(x, last):
    """The tokens of each row up to its last; what comes after is 0."""
    assert all(not row[end + 1 :].any() for row, end in zip(x[:], last, strict=True))
    return [row[: end + 1].tolist() for row, end in zip(x[:], last, strict=True)]


# ---- Labels


def test_texts_and_their_labels(write):
    path = write("a.jsonl", [{"text": "Good one", "label": "pos"}, {"text": "Bad.", "label": "neg"}])
    (loaded,) = examples.load(path, B=3, T=8)
    x, last, label = loaded.table.values()
    assert (loaded.kind, loaded.labels, loaded.count, loaded.notes) == ("labels", ("neg", "pos"), 2, ())
    assert str(loaded) == f"{path}: 2 examples of 2 labels"
    assert x[:].shape == (2, 8) and rows(x, last) == [[*ids("Good one"), END], [*ids("Bad."), END]]
    assert label.tolist() == [1, 0]


def test_texts_and_their_numbers_are_those_of_a_field_that_is_named(write):
    """A text with a score is a document else, and a text with a label has that."""
    path = write("a.jsonl", [{"text": "Good one", "score": 2.5}, {"text": "Bad.", "score": -1}])
    assert not datasets.is_examples(path)
    fields = FieldNames(score_field="score")
    assert datasets.is_examples(path, fields)
    (loaded,) = examples.load(path, B=3, T=8, fields=fields)
    x, last, score, weight = loaded.table.values()
    assert (loaded.kind, loaded.labels, str(loaded)) == ("scores", (), f"{path}: 2 examples of scores, in 2 rows")
    assert rows(x, last) == [[*ids("Good one"), END], [*ids("Bad."), END]]
    assert score.tolist() == [2.5, -1] and weight.tolist() == [1, 1]
    (batch,) = loaded.one_pass()
    assert batch["weight"].tolist() == [1, 1, 0] and batch["score"].dtype == np.float32  # the last one is filling
    pair = write("b.csv", "premise,hypothesis,label,alike\na,b,x,0.5\n")
    fields = FieldNames(text_field="premise,hypothesis", score_field="alike")
    (loaded,) = examples.load(pair, B=1, T=8, fields=fields)
    assert loaded.kind == "scores" and loaded.table["score"].tolist() == [0.5]
    both = write("c.jsonl", [{"text": "a", "label": "x", "score": 1}, {"text": "b", "label": "y", "score": 2}])
    assert examples.load(both, B=1, T=8)[0].kind == "labels"


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", 'label,text\nno,"a, ""b"""\n\nyes,"two\nlines"\nno,c\n'),
        ("a.csv", '\ufefflabel,text\r\nno,"a, ""b"""\r\nyes,"two\nlines"\r\nno,c\r\n'),
        ("a.csv", 'Label ,text\nno,"a, ""b"""\nyes,"two\nlines"\nno,c\n'),
        ("a.jsonl", '{"text": "a, \\"b\\"", "label": "no"}\n{"text": "two\\nlines", "label": " yes"}\n'
         '\n{"text": "c", "label": "no"}'),
    ],
    ids=["commas", "as Excel writes them", "capitals", "JSONL"],
)  # fmt: skip
def test_the_same_examples_in_any_format(write, name, content):
    (loaded,) = examples.load(write(name, content), B=3, T=16)
    x, last, label = loaded.table.values()
    assert loaded.labels == ("no", "yes") and label.tolist() == [0, 1, 0]
    assert rows(x, last) == [[*ids(text), END] for text in ('a, "b"', "two\nlines", "c")]


def test_in_a_table_with_tabs_quotes_are_text(write):
    (loaded,) = examples.load(write("a.tsv", 'text\tlabel\nso "good"\t1\n"open\t0\n'), B=3, T=16)
    assert rows(loaded.table["tokens"], loaded.table["last"]) == [[*ids('so "good"'), END], [*ids('"open'), END]]
    assert loaded.table["labels"].tolist() == [1, 0]


@pytest.mark.parametrize(
    "given, ordered",
    [
        ([10, 9, "2", -1], ("-1", "2", "9", "10")),
        (["b", "10", "9"], ("10", "9", "b")),
        (["1", "01", "001"], ("001", "01", "1")),
        (["--5", "3"], ("--5", "3")),
        (["\u0663", "1"], ("1", "\u0663")),  # a digit, of another script
        (["9" * 5000, "1"], ("1", "9" * 5000)),
    ],
    ids=["numbers", "words", "one number", "no number", "arabic", "long"],
)
def test_labels_have_one_order(write, given, ordered):
    path = write("a.jsonl", [{"text": "x", "label": each} for each in given])
    (loaded,) = examples.load(path, B=3, T=8)
    assert loaded.labels == ordered
    assert [loaded.labels[k] for k in loaded.table["labels"]] == [str(each) for each in given]


def test_labels_are_texts_whole_numbers_true_and_false(write):
    given = [10.0, 9, -0.0, "0", True, False, " true"]
    (loaded,) = examples.load(write("a.jsonl", [{"text": "x", "label": each} for each in given]), B=3, T=8)
    assert [loaded.labels[k] for k in loaded.table["labels"]] == ["10", "9", "0", "0", "true", "false", "true"]


def test_known_labels_have_the_order_that_they_had(write):
    path = write("a.jsonl", [{"text": "x", "label": "b"}, {"text": "y", "label": "b"}])
    (loaded,) = examples.load(path, B=3, T=8, known=["c", "b", "a"])
    assert loaded.labels == ("c", "b", "a") and loaded.table["labels"].tolist() == [1, 1]


def test_a_share_of_all_parts_of_the_file_is_held_out_and_always_the_same(write):
    """Of a file that is sorted by its labels both are on both sides, and nothing is lost or there twice."""
    path = write("a.jsonl", [{"text": str(n), "label": "late" if n > 49 else "early"} for n in range(100)])
    first, held = examples.load(path, B=3, T=8, fraction=0.2)
    assert (first.count, held.count) == (80, 20) and first.labels == held.labels == ("early", "late")
    assert 4 < held.table["labels"].sum() < 16
    texts = [
        encoding().decode(ids[:-1]) for part in (first, held) for ids in rows(part.table["tokens"], part.table["last"])
    ]
    assert sorted(map(int, texts)) == list(range(100))
    assert list(map(int, texts[:80])) == sorted(map(int, texts[:80]))  # the rest has the order of the file
    again = examples.load(path, B=3, T=8, seed=3, fraction=0.2)
    assert [part.fingerprint for part in again] == [first.fingerprint, held.fingerprint]
    with pytest.raises(DataError, match=r"--val 0.001 of 100 examples is 0; both sides need some"):
        examples.load(path, B=3, T=8, fraction=0.001)


def test_too_long_texts_lose_their_end_and_are_counted(write):
    words = " one two three four five six seven"
    path = write("a.jsonl", [{"text": words, "label": 0}, {"text": " one two three four", "label": 1}])
    (loaded,) = examples.load(path, B=3, T=5)
    assert rows(loaded.table["tokens"], loaded.table["last"]) == [[*ids(words)[:4], END], [*ids(words)[:4], END]]
    assert loaded.notes == ("1 text cut at the end, to 5 tokens",)


def test_batches_hold_every_row_once_and_what_fills_them_up_does_not_count(write):
    path = write("a.jsonl", [{"text": str(n), "label": n % 3} for n in range(7)])
    (loaded,) = examples.load(path, B=3, T=4)
    batches = list(loaded.one_pass())
    assert [batch["tokens"].shape for batch in batches] == [(3, 4)] * 3
    arrays = [np.concatenate([batch[name] for batch in batches]) for name in ("tokens", "last", "labels")]
    x, last, label = arrays
    assert label.tolist() == [0, 1, 2, 0, 1, 2, 0, -1, -1]
    assert rows(x[:7], last[:7]) == [[*ids(str(n)), END] for n in range(7)]


def test_a_batchs_answers_are_on_the_lines_of_the_file(write):
    """A blank line, and a pair that is skipped, are lines as well; where others are added, the data is the same."""
    pairs = [{"prompt": f"{n}", "chosen": " yes" * (n != 2), "rejected": " no" * (n != 2)} for n in range(5)]
    path = write("a.jsonl", pairs)
    (loaded,) = examples.load(path, B=4, T=8, seed=3)
    with open(path) as file:
        lines = file.read().splitlines()
    (moved,) = examples.load(write("b.jsonl", "\n\n" + "\n".join(lines)), B=4, T=8, seed=3)
    assert moved.fingerprint == loaded.fingerprint and moved.table.keys() == loaded.table.keys()
    batch, _ = loaded.batch(64)  # the second epoch
    found = [int(encoding().decode(pair[0, :1])) for pair in batch["tokens"]]
    assert sorted(found) == [0, 1, 3, 4]
    assert loaded.locate(64) == [(path, n + 1) for n in found]
    assert [line for _, line in moved.locate(64)] == [n + 3 for n in found]
    for position in (-16, 24):
        with pytest.raises(ValueError, match=f"position {position}, where no row of 16 tokens starts"):
            loaded.locate(position)


# ---- Wrong records


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"text": "x", "label": 0}\n\n{"text": "x"}', ", line 3: its fields are 'text', and an ex"),
        ("a.jsonl", '{"text": "x", "label": 0}\n{"label": 1}', ", line 2: its fields are 'label', and an e"),
        ("a.jsonl", '{"text_a": "x", "text_b": "y", "label": 0}\n{"text_a": "x", "label": 1}', "line 2: its fields a"),
        ("a.jsonl", '{"text": "x", "label": 0}\n{"text": " ", "label": 1}', ", line 2: 'text' is empty; give it a te"),
        ("a.jsonl", '{"text": 7, "label": 0}\n{"text": "x", "label": 1}', ", line 1: 'text' is of type int, and must"),
        ("a.jsonl", '{"text": "x", "label": []}', ", line 1: 'label' is of type list, and must be a text"),
        ("a.jsonl", '{"text": "x", "label": 1e999}', ", line 1: 'label' is of type float, and must be a text"),
        ("a.jsonl", '{"text": "x", "label": 0.5}', ", line 1: 'label' is of type float, and must be a text"),
        ("a.jsonl", '{"text": "x", "label": null}', ", line 1: 'label' is of type NoneType, and must be a text"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": "y", "label": "a"}', ": all labels are the same; give"),
        ("a.jsonl", '{"text": "x", "label": 0}\nx', ", line 2: not JSON (Expecting value, column 1); mend or remove"),
        ("a.jsonl", '{"text": "x", "label": 0}\n[]', ", line 2: not a JSON object (a list); give one object a line"),
        ("a.jsonl", '{"text": "x", "label": 0}\n{"text": "\\ud800", "label": 1}', ", line 2: a lone surrogate, half"),
        ("a.jsonl", b'{"text": "x", "label": 0}\n{"text": "\xe9"}', ", line 2: not UTF-8 (byte 0xe9 at offset 10 of "),
        ("a.jsonl", "\n \n", ": the file is empty; it needs one JSON object a line"),
        ("a.csv", "text,label\nx,0\na,b,1\n", ", line 3: 3 fields, and the first line names 2; mend it"),
        ("a.csv", "text,label\nx,0\ny,\n", ", line 3: 'label' is empty; give it a text, or remove the line"),
        ("a.csv", "text,label\n", ": no record in it: the first has the names of the fields, and each other a record"),
        ("a.csv", b"text,label\nx,0\n\xe9,1\n", ", line 3: not UTF-8: byte 0xe9; convert the file first"),
        ("a.csv", "text,text,label\nx,y,0\n", ": the first line names fields 1 and 2 alike; give each a name"),
        ("a.csv", 'text,label\nx,0\n"y,1\nz,1\n', ", line 3: a quote is not closed; mend the record that begins there"),
        ("a.csv", "text,id\nx,0\n", ", line 2: its fields are 'text', 'id', and none is a label; name it wi"),
        ("a.csv", "text;label\nx;0\n", ": fields must be separated by ',', and this file has ';'; convert it"),
        ("a.tsv", "text\tlabel\nx 0\n", ", line 2: 1 fields, and the first line names 2; mend it"),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_a_wrong_record_is_named_by_its_line(write, name, content, message):
    path = write(name, content)
    with pytest.raises(DataError) as error:
        examples.load(path, B=3, T=8)
    assert str(error.value).startswith(path) and message in str(error.value)


def test_an_unknown_label_is_named_by_its_line(write):
    path = write("a.csv", "text,label\nx,yes\ny,maybe\n")
    with pytest.raises(DataError, match=r"a.csv, line 3: unknown label \(2 are known\)"):
        examples.load(path, B=3, T=8, known=["no", "yes"])


def test_a_blank_of_any_length_is_cut_like_any_text(write):
    path = write("a.jsonl", [{"text": "x", "label": 0}, {"text": "a" + " " * 10**6 + "b", "label": 1}])
    loaded = examples.load(path, B=3, T=8)[0]
    assert loaded.table["tokens"][:][1].tolist() == [64, *[220] * 6, 50256]
    assert loaded.notes == ("1 text cut at the end, to 8 tokens",)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv: no such file"):
        examples.load(f"{tmp_path}/nowhere.csv", B=3, T=8)


# ---- The order


@pytest.mark.parametrize("R, B", [(7, 3), (5, 5), (3, 8), (10, 1)])
def test_every_epoch_has_each_row_once_in_a_new_order(R, B):
    T, seed, epochs = 4, 11, 6
    table = np.arange(R * T, dtype=np.uint16).reshape(R, T), np.arange(R) * 100
    position, seen = 0, []
    while len(seen) < R * epochs:
        x, y, following = next_examples(table, position, B, T, seed)
        assert x.shape == (B, T) and y.shape == (B,) and x.dtype == y.dtype == np.int32
        assert following == position + B * T
        np.testing.assert_array_equal(x[:, 0] // T, y // 100)  # the arrays are cut alike
        seen += (y // 100).tolist()
        position = following
    orders = [tuple(seen[R * epoch : R * (epoch + 1)]) for epoch in range(epochs)]
    assert all(sorted(order) == list(range(R)) for order in orders)
    assert len(set(orders)) > 1 or R == 1
    assert [int(next_examples((table[1],), k * T, 1, T, seed)[0][0] // 100) for k in range(R)] == list(orders[0])


def test_orders_depend_only_on_the_seed_and_the_epoch():
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert (epoch_order(50, 1, 2) == epoch_order.__wrapped__(50, 1, 2)).all()


def test_the_hosts_rows_of_examples_are_the_batch():
    table = (np.arange(30).reshape(10, 3),)
    whole, following = next_examples(table, 8 * 3, 6, 3, seed=0)
    parts = [next_examples(table, 8 * 3, 6, 3, seed=0, rows=slice(first, first + 2)) for first in (0, 2, 4)]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), whole)
    assert {position for _, position in parts} == {following}


@pytest.mark.parametrize(
    "content, suffix", [('\n {"text": "good"}\n{"text": "bad"}\n', ".jsonl"), ("text,label\ngood,1\nbad,2\n", ".csv")]
)
def test_texts_without_labels_may_come_through_a_pipe(write, content, suffix):
    """As `-` and as <(...); by what they begin with they are JSON lines or a table."""
    expected = examples.load_texts(write(f"a{suffix}", content), 2, 8, ["1", "2"])[0]
    stdin = os.dup(0)
    try:
        for name in ("-", "/dev/fd/0"):
            reader, writer = os.pipe()
            os.write(writer, content.encode())
            os.close(writer)
            os.dup2(reader, 0)
            os.close(reader)
            data, errors, lines = examples.load_texts(name, 2, 8, ["1", "2"])
            assert (data.fingerprint, errors, len(lines)) == (expected.fingerprint, {}, 2)
            assert data.name == {"-": "/dev/stdin", "/dev/fd/0": "/dev/fd/0"}[name] + suffix
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
