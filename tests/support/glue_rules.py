"""A checker of prediction files, from the rules that gluebenchmark.com and super.gluebenchmark.com publish (FAQ).

GLUE: TSV with the header index, prediction; a line for each line of the test file, in its order, and its index. Labels
are 0 and 1, or those of RTE, QNLI and MNLI by name, and for STS-B a number. SuperGLUE: JSONL of idx and label, of
MultiRC nested as its data are.
"""

import json
import re

GLUE_LABELS = {
    **dict.fromkeys(("CoLA", "SST-2", "MRPC", "QQP", "WNLI"), ("0", "1")),
    **dict.fromkeys(("RTE", "QNLI"), ("entailment", "not_entailment")),
    **dict.fromkeys(("MNLI-m", "MNLI-mm", "AX"), ("entailment", "neutral", "contradiction")),
}
SUPERGLUE_LABELS = {
    **dict.fromkeys(("BoolQ", "WiC"), ("true", "false")),
    "WSC": ("True", "False"),
    "CB": ("entailment", "neutral", "contradiction"),
    **dict.fromkeys(("RTE", "AX-b", "AX-g"), ("entailment", "not_entailment")),
    "COPA": (0, 1),
    "MultiRC": (0, 1),
}


def check_predictions(name, benchmark, content, test_file):
    """Refuse predictions `content` for the set of this name, whose questions are in a file as it is published."""
    assert content.endswith("\n") and "\r" not in content
    if benchmark == "glue":
        return check_tsv(name, content, test_file)
    questions = [json.loads(line) for line in test_file.read_bytes().split(b"\n") if line]
    predictions = [json.loads(line) for line in content.removesuffix("\n").split("\n")]
    if name == "MultiRC":
        assert len(predictions) == len(questions)
        for question, predicted in zip(questions, predictions, strict=True):
            assert shape(predicted) == shape(question) and predicted.keys() == {"idx", "passage"}
            for each in predicted["passage"]["questions"]:
                for answer in each["answers"]:
                    assert answer.keys() == {"idx", "label"} and is_one_of(answer["label"], SUPERGLUE_LABELS[name])
        return None
    if name == "ReCoRD":
        flat = [(qa["idx"], entities(question["passage"])) for question in questions for qa in question["qas"]]
    else:
        flat = [(question["idx"], SUPERGLUE_LABELS[name]) for question in questions]
    assert len(predictions) == len(flat)
    for (index, allowed), predicted in zip(flat, predictions, strict=True):
        assert [*predicted] == ["idx", "label"]
        assert predicted["idx"] == index and is_one_of(predicted["label"], allowed)
    return None


def check_tsv(name, content, test_file):
    header, *lines = content.removesuffix("\n").split("\n")
    assert header == "index\tprediction"
    _, *rows = test_file.read_text().removesuffix("\n").split("\n")
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        index, predicted = line.split("\t")
        assert index == row.split("\t")[0]
        if name == "STS-B":
            assert re.fullmatch(r"-?\d+\.\d+", predicted)
        else:
            assert predicted in GLUE_LABELS[name]


def is_one_of(label, allowed):
    return any(type(label) is type(each) and label == each for each in allowed)  # 1 is no True


def shape(record):
    """The idx of a passage, and of all of its questions and answers."""
    questions = record["passage"]["questions"]
    return record["idx"], [(each["idx"], [answer["idx"] for answer in each["answers"]]) for each in questions]


def entities(passage):
    return {passage["text"][each["start"] : each["end"] + 1] for each in passage["entities"]}
