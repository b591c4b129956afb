"""Judgments on disk: in the file or not, and never a half, after a kill or a power cut at any moment."""

import errno
import json
import os
import random
import signal
import subprocess
import sys

import pytest

from jaxgpt.commands.review import judgments as module
from jaxgpt.commands.review.judgments import Judgments
from jaxgpt.errors import DataError, JaxgptError, RetryableError, UsageError
from jaxgpt.reports.judgments import undecided_path
from tests.support.power import Disk

MODEL = {"name": "a", "fingerprint": "0" * 16}


def judgment(id, choice=1, annotator="anna", **fields):
    record = {"prompt": "x", "answers": ["a", "b"], "choice": choice, "order": [0, 1], "models": [MODEL, MODEL]}
    record |= {"winner": None if isinstance(choice, str) else choice - 1, "seeds": [1, 2], "sampling": {}}
    record |= {"topic": "", "remark": "", "edited": False}
    return record | {"cut": [False, False], "item": f"i{id}", "annotator": annotator, "id": id} | fields


def read(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "prefs.jsonl"


def opened(out):
    """The ids of what a restarted server finds."""
    store = Judgments(out)
    store.close()
    return [record["id"] for record in store.records]


def test_each_judgment_is_a_line_in_one_of_two_files(out):
    store = Judgments(out)
    for id, choice in (("1", 1), ("2", "tie"), ("3", 2), ("4", "skip"), ("5", 1)):
        store.add(judgment(id, choice, "ben" if id == "3" else "anna", remark="\u65e5\n\u2028\u0085\r"))
    assert (read(out), read(undecided_path(out))) == (["1", "3", "5"], ["2", "4"])
    assert store.find("4")["choice"] == "skip" and store.find("6") is None
    assert (store.last_of("ben")["id"], store.last_of("anna")["id"], store.last_of("eve")) == ("3", "5", None)
    store.close()
    again = Judgments(out)
    assert again.records == store.records and [each["number"] for each in again.records] == [1, 2, 3, 4, 5]
    for id in ("5", "4"):
        again.remove(again.find(id))
    assert (read(out), read(undecided_path(out))) == (["1", "3"], ["2"]) and again.find("5") is None
    assert again.add(judgment("7"))["number"] == 4 and again.last_of("anna")["id"] == "7"
    again.close()
    assert opened(out) == ["1", "2", "3", "7"]


def test_an_undo_leaves_the_bytes_of_the_other_lines(out):
    store = Judgments(out)
    for id in "12":
        store.add(judgment(id))
    store.close()
    lines = [line.replace('": ', '" :  ') for line in out.read_text().splitlines(keepends=True)]
    out.write_text("\n".join(lines))
    out.chmod(0o640)
    store = Judgments(out)
    store.remove(store.find("2"))
    store.close()
    assert out.read_text() == lines[0] and out.stat().st_mode & 0o777 == 0o640


def test_what_a_kill_left_unfinished_is_cut_off_at_any_byte(out, capsys):
    store = Judgments(out)
    for id in "12":
        store.add(judgment(id, remark="\u65e5\u672c"))
    store.close()
    content = out.read_bytes()
    first = content.index(b"\n") + 1
    for end in (*range(first, len(content) - 3, 5), *range(len(content) - 3, len(content) + 1)):
        out.write_bytes(content[:end])
        whole = end >= len(content) - 1
        assert opened(out) == ["1", "2"][: 1 + whole]
        assert out.read_bytes() == (content if whole else content[:first])
        assert ("not finished" in capsys.readouterr().err) == (not whole and end > first)
    out.write_bytes(content[:first] + bytes(100))  # as some file systems leave it after a power cut
    assert opened(out) == ["1"]


def test_a_full_disk_leaves_no_half_of_a_line(out, monkeypatch):
    store = Judgments(out)
    store.add(judgment("1"))
    before = out.read_bytes()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(file):
        raise full

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        store.add(judgment("2"))
    monkeypatch.undo()
    assert out.read_bytes() == before and store.find("2") is None
    store.add(judgment("2"))
    store.close()
    assert opened(out) == ["1", "2"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("[]", "'id', 'item'"),
        ("{", r"line 1: not JSON \(.*mend or remove the line, or choose another --out"),
        (json.dumps({"prompt": "x", "chosen": "a", "rejected": "b"}), "not a judgment of `review`: 'id', 'item'"),
        (json.dumps(judgment("1", 3, number=1)), "'choice', 'winner' is missing or wrong; choose another --out"),
        (json.dumps(judgment("1", "tie", number=1)), "'winner' is missing"),
        (json.dumps(judgment("../x", number=1)), ": 'id' is missing"),
        (
            json.dumps(judgment("1", number=True, answers=["a", 1], seeds=[1], models=[1, {}])),
            "'number', 'answers', 'mo",
        ),
        (json.dumps(judgment("1", number=1, models=[{}, MODEL], answers=["\ud800", "a"])), ": 'answers', 'models' is"),
        (
            json.dumps(judgment("1", number=1, topic=None, remark="\ud800", edited=0)),
            ": 'topic', 'remark', 'edited' is",
        ),
        (json.dumps(judgment("1", number=1, edited=True)), ": 'chosen' is missing"),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(out, line, message):
    out.write_text(line + "\n")
    with pytest.raises(DataError, match=message) as error:
        Judgments(out)
    assert out.read_text() == line + "\n" and str(error.value).startswith(f"{out}, line 1: ")


@pytest.mark.parametrize("other", [judgment("1", item="other"), judgment("2", "tie", item="i1")])
def test_files_that_somebody_has_joined_are_refused(out, other):
    out.write_text(json.dumps(judgment("1", number=1)) + "\n")
    store = Judgments(out)
    store.close()
    path = out if other["winner"] is not None else undecided_path(out)
    with path.open("a") as file:
        file.write(json.dumps(other | {"number": 2}) + "\n")
    with pytest.raises(DataError, match=r"prefs\.jsonl: a second (id|judgment) of 'anna' on item .*; remove one"):
        Judgments(out)


@pytest.mark.parametrize("content", [b"[]\n", b"{}\n", b"{\n", b"\xff\n"])
def test_what_an_editor_has_made_of_the_file_meanwhile_is_not_overwritten(out, content):
    store = Judgments(out)
    record = store.add(judgment("1"))
    out.write_bytes(content)
    with pytest.raises(OSError, match="it was changed"):
        store.remove(record)
    assert out.read_bytes() == content and store.find("1") is record
    out.unlink()
    out.symlink_to(__file__)
    with pytest.raises(UsageError, match="is a symbolic link"):
        store.remove(record)
    store.close()


def test_one_process_at_a_time(out):
    store = Judgments(out)
    with pytest.raises(RetryableError, match=r"prefs\.jsonl: in use by another review; stop it"):
        Judgments(out)
    store.close()
    assert opened(out) == []


def test_a_link_and_a_folder_are_refused(tmp_path, out):
    out.symlink_to(tmp_path / "other")
    for path in (out, tmp_path / "none" / "x.jsonl"):
        with pytest.raises(UsageError, match=r"symbolic link|No such file"):
            Judgments(path)
    out.unlink()
    out.mkdir()
    with pytest.raises(JaxgptError, match="Is a directory"):
        Judgments(out)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from jaxgpt.commands.review.judgments import Judgments
from jaxgpt.reports.judgments import undecided_path
from tests.commands.review.test_judgments import judgment, judge, opened

class Counted:
    def __init__(self, left): self.left = left
    def step(self):
        self.left -= 1
        if self.left == 0: os.kill(os.getpid(), signal.SIGKILL)
    def __call__(self, call):
        def counts(*args, **options):
            self.step()
            result = call(*args, **options)
            self.step()
            return result
        return counts

out, count, status = Path(sys.argv[1]), 0, 1
while status:
    count += 1
    for path in (out, undecided_path(out)): path.unlink(missing_ok=True)
    said = os.open(out.with_name("said"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if not (child := os.fork()):
        counted = Counted(count)
        os.fsync, os.open = counted(os.fsync), counted(os.open)
        for name in ("replace", "write_text", "unlink"): setattr(Path, name, counted(getattr(Path, name)))
        judge(out, lambda line: os.write(said, line.encode()))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    os.close(said)
    before = sorted(os.listdir(out.parent))
    print(json.dumps([status, out.with_name("said").read_text().splitlines(), opened(out), before]))
"""


def judge(out, say):
    """Four judgments, of which one is undone, each said when it is done."""
    store = Judgments(out)
    for n in range(4):
        store.add(judgment(f"{n}", "tie" if n % 3 == 1 else 1))
        say(f"saved {n}\n")
        if n == 2:
            store.remove(store.find(f"{n}"))
            say(f"undone {n}\n")


def expected(printed):
    """Ids that must be there, and those that may be, after a process that has said this much."""
    saved, last = [], printed[-1] if printed else "undone -1"
    for line in printed:
        what, id = line.split()
        saved.append(id) if what == "saved" else saved.remove(id)
    what, id = last.split()
    if what == "saved" and id == "2":  # its undo had begun
        return [saved, saved[:-1]]
    return [saved, [*saved, str(int(id) + 1)]]  # the next one had begun


def test_a_kill_before_or_after_any_file_operation_loses_and_doubles_nothing(out):
    done = subprocess.run([sys.executable, "-c", KILLED, out], capture_output=True, text=True)
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    for status, said, found, _ in trials[:-1]:
        assert status == signal.SIGKILL and found in expected(said), said
    assert trials[-1][0] == 0 and trials[-1][2] == ["0", "1", "3"] and len(trials) > 40, done.stderr
    assert any(name.endswith(".tmp") for *_, names in trials for name in names) and trials[-1][3] == [
        ".prefs.jsonl.lock",
        "prefs.jsonl",
        "prefs.undecided.jsonl",
        "said",
    ]  # what a kill leaves of an undo goes with the next


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_loses_nothing_that_was_saved(tmp_path, monkeypatch, seed):
    folder, draw = tmp_path / "disk", random.Random(seed)
    folder.mkdir()
    out = folder / "prefs.jsonl"
    disk = Disk(tmp_path / "store")
    disk.sync_all(folder)
    monkeypatch.setattr(os, "fsync", disk.sync)
    saved = []
    for n in range(8):
        with Judgments(out) as store:
            assert [record["id"] for record in store.records] == saved
            for k in range(draw.randrange(4)):
                store.add(judgment(f"{n}-{k}", draw.choice([1, 2, "tie", "skip"])))
                saved.append(f"{n}-{k}")
            if saved and draw.random() < 0.3:
                store.remove(store.find(saved.pop()))
        disk.cut_power(folder, draw)
