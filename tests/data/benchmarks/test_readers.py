import pytest

from jaxgpt.data.benchmarks import readers, tasks
from jaxgpt.errors import DataError
from tests.support import glue_files

TABLE = {(task.benchmark, task.name): task for task in tasks.read_tasks()}
P = "Ann met Bob. Bob left"
STARS = ("bank: A *bank* by a river.", "*Banks* lend.")
LIES = ("Mark told Pete many lies, and then *he* left.", "he is Mark")
RAIN = "It rained. What was the {}?"
# Of each task: what is learned, measured and predicted, as (texts, label, index, choice).
EXPECTED = {
    ("glue", "CoLA"): (
        [("The sailors rode the breeze.", "1"), ('He said "that.', "0"), ("Me goes.", "0")],
        {"CoLA": ([("She left.", "1"), ("Left she the.", "0")], [("Bill whistled.", "0"), ('"Who" came?', "1")])},
    ),
    ("glue", "SST-2"): (
        [("hide new secretions ", "0"), ("that loves its characters ", "1")],
        {
            "SST-2": (
                [("it 's a charming journey . ", "1"), ("unflinchingly bleak ", "0")],
                [("uneasy mishmash of styles .", "0"), ("by the end , joy .", "1")],
            )
        },
    ),
    ("glue", "MRPC"): (
        [('He said "no.', "He said no.", "1"), ("A", "B", "0")],
        {"MRPC": ([("One", "Un", "1"), ("Two", "Trois", "0")], [("X", "Y", "0"), ("V", "W", "1")])},
    ),
    ("glue", "STS-B"): (
        [("A plane.", "An air plane.", "5.0"), ("A man", "Cat.", "0.8")],
        {
            "STS-B": (
                [
                    ("A hat.", "A hard hat.", "3.25"),
                    ("A child.", "A horse.", "0.0"),
                    ("A mouse.", "The mouse.", "4.6"),
                ],
                [("A girl.", "A boy.", "0"), ("A bird.", "Birds.", "1")],
            )
        },
    ),
    ("glue", "QQP"): (
        [("Why?", "How so?", "1"), ("When?", ".", "0")],
        {"QQP": ([("A?", "B?", "0"), ("C?", "C ?", "1")], [("D?", "E?", "0"), ("F?", "G?", "1")])},
    ),
    ("glue", "MNLI"): (
        [
            ("It rains.", "It is wet.", "neutral"),
            ("I run.", "I move.", "entailment"),
            ("I run.", "I sit.", "contradiction"),
        ],
        {
            **{
                name: (
                    [(f"{kind} p", f"{kind} h", "entailment"), ("so", "not", "neutral")],
                    [(f"a {kind}", "b", first), ("c", "d", second)],
                )
                for name, kind, first, second in (
                    ("MNLI-m", "matched", "0", "1"),
                    ("MNLI-mm", "mismatched", "9796", "9797"),
                )
            },
            "AX": (None, [("The cat sat.", "The cat did not sit.", "0")]),
        },
    ),
    ("glue", "QNLI"): (
        [("When?", "In 1860.", "entailment"), ("Who", "No", "not_entailment")],
        {
            "QNLI": (
                [("Where?", "Here.", "entailment"), ("What?", "I.", "not_entailment")],
                [("Which?", "That.", "0"), ("How?", "So.", "1")],
            )
        },
    ),
    ("glue", "RTE"): (
        [("No arms.", "Arms.", "not_entailment"), ("A.", "A.", "entailment")],
        {
            "RTE": (
                [("Dana said so.", "Dana.", "entailment"), ("B", "C", "not_entailment")],
                [("Mangla came.", "She came.", "0"), ("D.", "E.", "1")],
            )
        },
    ),
    ("glue", "WNLI"): (
        [("I stuck a pin.", "The pin is.", "1"), ("He ate.", "It ate.", "0")],
        {
            "WNLI": (
                [("The drain is clogged.", "It is.", "1"), ("F.", "G.", "0")],
                [("Maude and Dora.", "They.", "0"), ("H.", "I.", "1")],
            )
        },
    ),
    ("superglue", "BoolQ"): (
        [("It -- (it) is.", "is it so", "true"), ("No.", "is it\u2028not", "false")],
        {"BoolQ": ([("b", "a", "false"), ("d", "c", "true")], [("f", "e", 0), ("h", "g", 1)])},
    ),
    ("superglue", "CB"): (
        [
            ("It was.", "It is.", "neutral"),
            ("A: Yes.\nB: No.", "Yes.", "entailment"),
            ("I think so.", "No.", "contradiction"),
        ],
        {"CB": ([("a", "b", "neutral"), ("c", "d", "entailment")], [("e", "f", 0), ("g", "h", 1)])},
    ),
    ("superglue", "COPA"): (
        [
            (RAIN.format("effect"), "I got wet.", "true"),
            (RAIN.format("effect"), "I slept.", "false"),
            (RAIN.format("cause"), "I got wet.", "false"),
            (RAIN.format("cause"), "I slept.", "true"),
        ],
        {
            "COPA": (
                [(RAIN.format("cause"), "I got wet.", "false"), (RAIN.format("cause"), "I slept.", "true")],
                [
                    (RAIN.format(question), text, index)
                    for index, question in enumerate(("effect", "cause"))
                    for text in ("I got wet.", "I slept.")
                ],
            )
        },
    ),
    ("superglue", "MultiRC"): (
        [
            ("Passage 0.", "Q0? a0", "0"),
            ("Passage 0.", "Q0? a1", "1"),
            ("Passage 0.", "Q1? a2", "1"),
            ("Passage 1.", "Q0? a0", "1"),
            ("Passage 1.", "Q0? a1", "0"),
            ("Passage 1.", "Q1? a2", "0"),
        ],
        {
            "MultiRC": (
                [("Passage 0.", "Q0? a0", "1"), ("Passage 0.", "Q0? a1", "1"), ("Passage 0.", "Q1? a2", "0")],
                [
                    ("Passage 0.", "Q0? a0", (0, 0, 0)),
                    ("Passage 0.", "Q0? a1", (0, 0, 1)),
                    ("Passage 0.", "Q1? a2", (0, 1, 2)),
                ],
            )
        },
    ),
    ("superglue", "ReCoRD"): (
        [
            (P, "Then Ann came.", "true"),
            (P, "Then Bob came.", "false"),
            (P, "Then Ann went.", "false"),
            (P, "Then Bob went.", "true"),
        ],
        {
            "ReCoRD": (
                [
                    (P, "Then Ann came.", "false"),
                    (P, "Then Bob came.", "true"),
                    (P, "Then Ann went.", "true"),
                    (P, "Then Bob went.", "false"),
                ],
                [
                    (P, f"Then {name} {verb}.", index)
                    for index, verb in enumerate(("came", "went", "came", "went"))
                    for name in ("Ann", "Bob")
                ],
            )
        },
    ),
    ("superglue", "RTE"): (
        [("a", "b", "entailment"), ("c", "d", "not_entailment")],
        {
            "RTE": ([("e", "f", "not_entailment"), ("g", "h", "entailment")], [("i", "j", 0), ("k", "l", 1)]),
            "AX-b": (
                [("The cat sat.", "It did.", "entailment"), ("A", "B", "not_entailment")],
                [("The cat sat.", "It did.", 0), ("A", "B", 1)],
            ),
            "AX-g": (
                [("She came.", "He came.", "not_entailment"), ("He came.", "He came.", "entailment")],
                [("She came.", "He came.", 0), ("He came.", "He came.", 1)],
            ),
        },
    ),
    ("superglue", "WiC"): (
        [(*STARS, "false"), (*STARS, "true")],
        {"WiC": ([(*STARS, "true"), (*STARS, "false")], [(*STARS, 0), (*STARS, 1)])},
    ),
    ("superglue", "WSC"): (
        [(*LIES, "true"), (*LIES, "false")],
        {"WSC": ([(*LIES, "true"), (*LIES, "false")], [(*LIES, 0), (*LIES, 1)])},
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    files = {"glue": glue_files.GLUE, "superglue": glue_files.SUPERGLUE}
    return {name: glue_files.write(folder / name, each) for name, each in files.items()}


def labelled(split):
    return split and [(*item.texts, item.label) for item in split.items]


def unlabelled(split):
    assert not any(item.label or item.answers for item in split.items)
    indices = [item.index if len(item.index) > 1 else item.index[0] for item in split.items]
    return [(*item.texts, index) for item, index in zip(split.items, indices, strict=True)]


@pytest.mark.parametrize("name", TABLE, ids="-".join)
def test_items_are_those_written_by_hand(folders, name):
    task, folder, (train, sets) = TABLE[name], folders[name[0]], EXPECTED[name]
    assert labelled(readers.read_train(task, folder)) == train
    assert [each.name for each in task.sets] == [*sets]
    for each in task.sets:
        dev, test = sets[each.name]
        assert labelled(readers.read_dev(task, each, folder)) == dev
        assert unlabelled(readers.read_test(task, each, folder)) == test


def test_choices_keep_what_a_prediction_calls_them(folders):
    task = TABLE["superglue", "ReCoRD"]
    items = readers.read_dev(task, task.sets[0], folders["superglue"]).items
    assert [(item.choice, item.index, item.answers) for item in items] == [
        ("Ann", (0,), ("Bob", "Bob")),
        ("Bob", (0,), ("Bob", "Bob")),
        ("Ann", (1,), ("Ann",)),
        ("Bob", (1,), ("Ann",)),
    ]
    task = TABLE["superglue", "COPA"]
    assert [item.choice for item in readers.read_dev(task, task.sets[0], folders["superglue"]).items] == ["0", "1"]


def test_what_is_left_out_is_told(folders):
    task, folder = TABLE["glue", "QQP"], folders["glue"]
    assert readers.read_train(task, folder).notes == [
        f"{folder}/QQP/train.tsv: 1 row with too few or too many columns left out, line 3",
        f"{folder}/QQP/train.tsv: 1 empty text read as '.'",
    ]
    task = TABLE["glue", "MNLI"]
    (note,) = readers.read_dev(task, task.sets[0], folder).notes
    assert note == f"{folder}/MNLI/dev_matched.tsv: 1 record labelled - left out"


@pytest.mark.parametrize("validation", ["dev.tsv", "dev_ids.tsv"])
def test_microsofts_own_files_are_split_by_dev_ids(tmp_path, validation):
    train = f"{glue_files.MRPC}\n1\t70\t71\tHe said.\tHe.\n0\t82\t83\tTwo\tTrois\n0\t72\t73\tA\tB\n"
    test = f"{glue_files.MRPC}\n1\t90\t91\tX\tY\n0\t92\t93\tV\tW\n"
    dev = f"{glue_files.MRPC}\n0\t82\t83\tTwo\tTrois\n" if validation == "dev.tsv" else "82\t83\n"
    files = {"msr_paraphrase_train.txt": train, "msr_paraphrase_test.txt": test, validation: dev}
    glue_files.write(tmp_path, {f"MRPC/{name}": content for name, content in files.items()})
    task = TABLE["glue", "MRPC"]
    assert labelled(readers.read_train(task, tmp_path)) == [("He said.", "He.", "1"), ("A", "B", "0")]
    assert labelled(readers.read_dev(task, task.sets[0], tmp_path)) == [("Two", "Trois", "0")]
    assert unlabelled(readers.read_test(task, task.sets[0], tmp_path)) == [("X", "Y", 0), ("V", "W", 1)]


def test_wrong_choices_to_learn_from_are_drawn():
    names = [f"name{k}" for k in range(9)]
    items = [
        readers.Item(1, (name,), str(name in ("name2", "name7")).lower(), (question,), name)
        for question in range(50)
        for name in names
    ]
    kept = readers._sample_choices(items, 4)
    assert kept == readers._sample_choices(items, 4) == sorted(kept, key=items.index)
    counts = {name: sum(item.choice == name for item in kept) for name in names}
    assert len(kept) == 50 * 6 and counts["name2"] == counts["name7"] == 50
    assert min(counts.values()) > 0.3 * 50  # each wrong one is drawn 4 times in 7
    assert readers._sample_choices(items, 7) == items


WRONG = [
    (
        "glue",
        "CoLA",
        "train.tsv",
        "gj04\t1\t\tFine.\ngj04\t1\tShort.\n",
        "line 2: 3 fields, and every row needs 4; mend it",
    ),
    ("glue", "CoLA", "train.tsv", "gj04\t2\t\tFine.\n", "line 1: label is '2', and must be 0 or 1"),
    ("glue", "CoLA", "train.tsv", "gj04\t1\t\tF\xff\n", "line 1: not UTF-8"),
    ("glue", "SST-2", "dev.tsv", "sentence\tlabel\na\tb\t1\n", "line 2: 3 fields, and the first line names 2; mend it"),
    ("glue", "STS-B", "train.tsv", None, "line 2: score is '6.1', and must be a number from 0 to 5"),
    ("glue", "RTE", "train.tsv", "index\tsentence1\tlabel\n0\ta\tentailment\n", "line 2: no field 'sentence2'"),
    ("glue", "RTE", "train.tsv", "index\tsentence1\tsentence2\tlabel\n", "no record in it"),
    ("superglue", "CB", "val.jsonl", '{"premise": "a"}\n{\n', "line 2: not JSON"),
    ("superglue", "CB", "val.jsonl", '{"premise": "a"}\n', "line 1: no field 'hypothesis'"),
    ("superglue", "CB", "val.jsonl", '{"premise": 1, "hypothesis": "b"}\n', "line 1: 'premise' is of type int"),
    ("superglue", "COPA", "train.jsonl", None, "line 1: label is '2', and must be 0 or 1"),
    (
        "superglue",
        "MultiRC",
        "train.jsonl",
        '{"idx": 0, "passage": {}}\n',
        "no record of MultiRC: 'questions' is missing",
    ),
    ("superglue", "WSC", "train.jsonl", '{"text": 3, "target": {}}\n', "line 1: no record of WSC: 'int' object has no"),
]
CONTENTS = {
    "STS-B": f"{glue_files.STSB}\tscore\n0\t{glue_files.CAPTION}\ta\tb\t6.1\n",
    "COPA": glue_files.lines({**glue_files.COPA, "question": "cause", "label": 2, "idx": 0}),
}


@pytest.mark.parametrize(("benchmark", "name", "file", "content", "error"), WRONG)
def test_a_wrong_line_is_named(tmp_path, benchmark, name, file, content, error):
    task, path = TABLE[benchmark, name], tmp_path / name / file
    path.parent.mkdir()
    path.write_bytes((content or CONTENTS[name]).encode("latin-1"))
    with pytest.raises(DataError) as raised:
        if file.startswith("train"):
            readers.read_train(task, tmp_path)
        else:
            readers.read_dev(task, task.sets[0], tmp_path)
    assert f"{path}" in str(raised.value) and error in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    task = TABLE["glue", "RTE"]
    with pytest.raises(DataError, match=r"RTE: no dev.tsv there"):
        readers.read_dev(task, task.sets[0], tmp_path)
    assert readers.read_test(task, task.sets[0], tmp_path) is None
