"""The corpus with known faults: that each fault is where it is said to be, and nothing else is one."""

import collections
import csv
import json

import pytest

from jaxgpt.prepare.pii import KINDS
from tests.support.faults import mended, rates, write


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    return folder, write(folder)


def grams(text, n):
    words = "".join(c for c in text.lower() if c.isalnum() or c.isspace()).split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_the_files_hold_the_documents_where_they_are_said_to_be(corpus):
    folder, truth = corpus
    assert sorted(path.name for path in folder.iterdir()) == sorted([*truth.files, truth.eval_file])
    found = {}
    for file in truth.files:
        content = (folder / file).read_bytes()
        if file.endswith(".txt"):
            found[file.removesuffix(".txt")] = (content.decode(), 1)
        elif file.endswith(".csv"):
            rows = csv.reader(content.decode().splitlines(keepends=True))
            line, (names, *rest) = 1, rows
            assert names == ["id", "text"]
            for (name, text), before in zip(rest, [names, *rest], strict=False):
                line += 1 + sum(cell.count("\n") for cell in before)
                found[name] = (text, line)
        else:
            for number, line in enumerate(content.split(b"\n"), 1):
                if line.strip() and (file, number) not in truth.broken:
                    record = json.loads(line)
                    found[record["id"]] = (record["text"], number)
    assert {name: text for name, (text, _) in found.items()} == truth.texts
    assert {name: line for name, (_, line) in found.items()} == {name: line for name, (_, line) in truth.where.items()}
    lines = (folder / "broken.jsonl").read_bytes().split(b"\n")
    assert len(truth.broken) == 8 and all(not lines[number - 1].strip() for _, number in truth.blank)
    for _, number in truth.broken:
        try:
            text = json.loads(lines[number - 1])["text"]
            text.encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        raise AssertionError(lines[number - 1])


def test_the_same_seed_makes_the_same_files(corpus, tmp_path):
    folder, truth = corpus
    assert write(tmp_path) == truth
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())
    (tmp_path / "other").mkdir()
    assert write(tmp_path / "other", seed=1).texts != truth.texts


def test_every_document_has_one_place_in_the_truth(corpus):
    _, truth = corpus
    groups = [name for groups in (truth.exact, truth.near, truth.templated) for group in groups for name in group]
    one = [truth.clean, truth.pii, truth.lookalikes, truth.mojibake, truth.odd, truth.control, truth.boilerplate]
    one += [truth.mentions, truth.low_quality, truth.unusual, truth.leaks, truth.leaks_recased, truth.short_overlaps]
    one += [truth.empty, [name for name, why in truth.huge.items() if why == "prose"], groups]
    assert sorted(name for names in one for name in names) == sorted(truth.texts)
    assert mended(truth).keys() < truth.texts.keys()


def test_only_those_said_to_be_alike_are_alike(corpus):
    _, truth = corpus
    sets = {name: grams(text, 5) for name, text in truth.texts.items() if name not in truth.huge}
    holders = collections.defaultdict(list)
    for name, ours in sets.items():
        for gram in ours:
            holders[gram].append(name)
    shared = collections.Counter()
    for names in holders.values():
        shared.update((one, other) for n, other in enumerate(names) for one in names[:n])
    alike = {pair: n / (len(sets[pair[0]]) + len(sets[pair[1]]) - n) for pair, n in shared.items()}

    def pairs(groups):
        return [(one, other) for group in groups for n, other in enumerate(group) for one in group[:n]]

    assert all(truth.texts[one] == truth.texts[other] for one, other in pairs(truth.exact))
    assert {truth.where[one][0] == truth.where[other][0] for one, other in pairs(truth.exact)} == {True, False}
    near, templated = pairs(truth.near), pairs(truth.templated)
    assert all(0.7 < alike[pair] < 1 for pair in near)
    assert all(0.1 < alike[pair] < 0.5 for pair in templated), sorted(alike[pair] for pair in templated)
    said = {*pairs(truth.exact), *near, *templated}
    assert max(value for pair, value in alike.items() if pair not in said) < 0.2


def test_leaks_are_long_and_nothing_else_is(corpus):
    folder, truth = corpus
    examples = [json.loads(line) for line in (folder / truth.eval_file).read_text().splitlines()]
    thirteen, nine, eight = (
        set().union(*(grams(text, n) for example in examples for text in example.values())) for n in (13, 9, 8)
    )
    for name, text in truth.texts.items():
        if name in truth.leaks or name in truth.leaks_recased:
            assert grams(text, 13) & thirteen
        elif name in truth.huge:  # so long that it shares nine words by chance
            assert not grams(text, 13) & thirteen
        else:
            assert not grams(text, 9) & nine
            assert name not in truth.short_overlaps or grams(text, 8) & eight


def test_damage_is_damage_and_can_be_undone(corpus):
    _, truth = corpus
    for name, right in truth.control.items():
        assert "".join(c for c in truth.texts[name] if (c >= " " and c != "\x7f") or c in "\t\n") == right
        assert truth.texts[name] != right
    for name, right in truth.mojibake.items():
        lines, wrong = right.split("\n\n"), truth.texts[name].split("\n\n")
        assert lines != wrong and "\x85" not in truth.texts[name]
        for _ in range(2):
            wrong = [line if line in lines else backwards(line) for line in wrong]
        assert wrong == lines
    for name, lines in truth.boilerplate.items():
        assert set(lines) < set(truth.texts[name].split("\n")) and not set(lines) & set(mended(truth)[name].split("\n"))
    for name, line in truth.mentions.items():
        assert line in truth.texts[name].split("\n")
    assert collections.Counter(kind for kind, _, _ in truth.pii.values()) == dict.fromkeys(KINDS, 10)
    for name, (kind, start, end) in truth.pii.items():
        assert 0 < start < end < len(truth.texts[name])
        assert kind != "email" or "@" in truth.texts[name][start:end]


def backwards(text):
    try:
        return text.encode("cp1252").decode()
    except UnicodeEncodeError:
        return text.encode("latin-1").decode()


def test_rates():
    assert rates([1, 2, 3, 4], [1, 2, 9]) == (0.5, pytest.approx(2 / 3))
    assert rates([], [1]) == (1, 0) and rates([], []) == (1, 1)
