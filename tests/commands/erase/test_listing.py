from pathlib import Path
from types import SimpleNamespace

from jaxgpt.commands.erase.listing import count_tokens, list_documents, list_paths, list_readers
from jaxgpt.commands.erase.readers import Reader
from jaxgpt.data.document_search import Found
from jaxgpt.data.redaction import merge


def make_reader(name, first, steps, checkpoints, **more):
    paths = {Path(name, "checkpoints", str(step)): step for step in checkpoints}
    return Reader(SimpleNamespace(folder=Path(name), steps=steps, checkpoints=paths), first, **more)


def test_documents_are_listed_by_number_and_not_by_text(capsys):
    found = [Found("train", n, 10 * n, 10 * n + 9, ((10 * n, 10 * n + 9),), "named") for n in range(30)]
    new = {"train": merge([(0, 9), (10, 11)]), "val": merge([(3, 4)])}
    assert count_tokens(new) == "10 tokens of train and 1 token of val"
    list_documents(found, new, Path("data"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "documents 30 documents in data, 10 tokens of train and 1 token of val"
    assert lines[2] == "          train:1: tokens 10 to 19, named" and lines[-1] == "          and 10 more"
    list_documents(found[:1], {}, Path("data"))
    list_documents([], {}, Path("data"))
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] != " "] == [
        "documents 1 document in data, all erased already",
        "documents none in data",
    ]


def test_runs_are_listed_with_what_is_left_of_them_and_the_cost(capsys):
    readers = [
        make_reader("a", 50, 100, [20, 40, 60, 100]),
        make_reader("b", 0, 10, [10], why="it began with the weights of a"),
        make_reader("c", None, 10, [10]),
        make_reader("d", None, 10, [10], unknown="it read another text"),
    ]
    list_readers(readers, 5, [Path("runs")])
    assert capsys.readouterr().out.splitlines() == [
        "run       a: has read it from step 50 on; resumes from checkpoint 40, 60 steps of 100 to train again",
        "tainted   a/checkpoints/60",
        "tainted   a/checkpoints/100",
        "run       b: has read it from step 0 on; it began with the weights of a; starts over, 10 steps of 10 to train "
        "again",
        "tainted   b/checkpoints/10",
        "run       c: reads the folder, and has not read it",
        "unknown   d: it read another text; see yourself, or train it again with --fresh",
        "cost      70 of 110 steps to train again, 64%",
    ]
    list_readers(readers[2:3], 5, [Path("runs"), Path("old")])
    assert capsys.readouterr().out.startswith("runs      none under runs, old has read it; 5 runs looked at\n")
    list_paths("export", [Path("hf")], "has read it")
    assert capsys.readouterr().out == "export    hf: has read it\n"
