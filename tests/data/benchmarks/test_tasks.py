import pytest

from jaxgpt.data.benchmarks import tasks
from jaxgpt.errors import DataError, UsageError

MINE = """
[mine]
dev = "dev.jsonl"
[mine.mail]
train = ["a.jsonl", "b.jsonl"]
texts = ["{subject}", "{body}"]
labels = ["ham", "spam"]
metrics = ["f1"]
flags = { T = 64 }
"""


def test_a_benchmarks_table_holds_for_its_tasks():
    (task,) = tasks.parse_tasks("mine.toml", MINE.encode())
    (each,) = task.sets
    assert (task.benchmark, task.name, task.train, task.flags) == ("mine", "mail", ("a.jsonl", "b.jsonl"), {"T": 64})
    assert (each.name, each.dev, each.test, each.texts) == ("mail", ("dev.jsonl",), (), ("{subject}", "{body}"))


def test_another_table_replaces_and_adds(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE + MINE.replace("[mine]\n", "[glue]\n").replace("[mine.mail]", "[glue.RTE]"))
    built_in, both = tasks.read_tasks(), tasks.read_tasks(path)
    assert [(task.benchmark, task.name) for task in both] == [
        *((task.benchmark, task.name) for task in built_in),
        ("mine", "mail"),
    ]
    assert next(task for task in both if task.name == "RTE").texts == ("{subject}", "{body}")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[mine]", "[mine", "mine.toml: is no TOML"),
        (MINE, "", "mine.toml: no task in it"),
        (MINE, "a = 1", "mine.toml: a is no table"),
        ("texts", "text", "[mine.mail]: text: no such key"),
        ('metrics = ["f1"]', "", "[mine.mail]: metrics is missing"),
        ('["f1"]', '["pearson"]', "metrics: pearson: such a task has accuracy, f1, f1_macro, matthews"),
        ('["f1"]', "[]", "metrics must be a list of texts"),
        ('dev = "dev.jsonl"', "", "dev is missing"),
        ('labels = ["ham", "spam"]', "", "give one of labels, range and choices"),
        ('labels = ["ham", "spam"]', "range = [1, 1]", "range must be a list of two numbers, the lower first"),
        ("{ T = 64 }", '"T"', "flags must be a table"),
        ("flags = { T = 64 }", "[[mine.mail.sets]]\nlabels = ['a']", "labels: no such key"),
        ("flags = { T = 64 }", "sets = [1]", "sets must be a list of tables"),
        ("flags = { T = 64 }", "records = 'wic2'", "records must be one of multirc, record, wic, wsc"),
        ("flags = { T = 64 }", "name = 'x'", "name: no such key"),
        ("flags = { T = 64 }", "records = []", "records must be one of multirc"),
        ('["ham", "spam"]', '["a", "b", "c"]', "metrics: f1: such a task has accuracy, f1_macro, matthews"),
        ("[mine.mail]", "[mine.'../mail']", "a name must consist of letters"),
        ('"{body}"', '"{body}", "{c}"', "texts must be a list of one text or two"),
    ],
)
def test_a_wrong_table_is_refused(old, new, error):
    assert old in MINE
    with pytest.raises(DataError) as raised:
        tasks.parse_tasks("mine.toml", MINE.replace(old, new).encode())
    assert error in str(raised.value) and str(raised.value).startswith("mine.toml: ")


def test_tasks_are_those_whose_files_are_there(tmp_path):
    table = tasks.read_tasks()
    for name in ("RTE/train.tsv", "MRPC/msr_paraphrase_train.txt", "WSC/val.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [task.name for task in tasks.choose_tasks(table, tmp_path)] == ["MRPC", "RTE"]
    (task,) = tasks.choose_tasks(table, tmp_path, ["RTE"])
    assert task.benchmark == "glue"
    for names, error in (
        (["RTE", "WSC"], f"{tmp_path}/WSC: no train.jsonl there"),
        (["rte"], "--tasks rte: no such task; there are BoolQ, CB, COPA, CoLA"),
    ):
        with pytest.raises(UsageError) as raised:
            tasks.choose_tasks(table, tmp_path, names)
        assert error in str(raised.value)
    (tmp_path / "RTE/train.jsonl").touch()
    with pytest.raises(UsageError, match="RTE: files of two benchmarks"):
        tasks.choose_tasks(table, tmp_path)
