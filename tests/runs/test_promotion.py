import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.runs.promotion import promote, require_promotable

ROOT = Path(__file__).parents[2]
PROMOTE = """
import os, signal, sys
from pathlib import Path
from jaxgpt.runs.promotion import promote
link, old, new, changes = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
left = changes
def watch(event, args):
    global left
    if event in ("os.symlink", "os.rename", "os.remove", "os.mkdir", "open"):
        left -= 1
        if left == -1:
            os.kill(os.getpid(), signal.SIGKILL)
if changes >= 0:
    sys.addaudithook(watch)
    promote(link, new, [old])
    sys.exit(0)
print("ready", flush=True)
while True:
    promote(link, new, [old])
    promote(link, old, [new])
"""


@pytest.fixture
def runs(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    return tmp_path


def start(link, *words):
    command = [sys.executable, "-c", PROMOTE, str(link), *map(str, words)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)


def test_the_link_names_the_run_and_moves_with_the_folder_of_both(runs):
    link = runs / "promoted"
    promote(link, runs / "old", [])
    assert link.is_symlink() and (link / "config.json").read_text() == "old"
    promote(link, runs / "new", [runs / "old"])
    promote(link, runs / "new", [])  # again: a kill may have come when it was done
    assert os.readlink(link) == "new"
    runs.rename(moved := runs.with_name("moved"))
    assert (moved / "promoted" / "config.json").read_text() == "new"
    assert sorted(path.name for path in moved.iterdir()) == ["new", "old", "promoted"]
    promote(moved / "in" / "use" / "here", moved / "new", [])  # a folder of its own
    assert (moved / "in" / "use" / "here" / "config.json").read_text() == "new"


def test_a_run_that_is_no_ancestor_keeps_the_link(runs):
    link = runs / "promoted"
    link.symlink_to("other")  # a run that was deleted
    for ancestors in ([], [runs / "old"]):
        for refuse in (require_promotable, promote):
            with pytest.raises(UsageError, match=r"links to .*/other, and .*/new does not come from that run; update"):
                refuse(link, runs / "new", ancestors)
    assert os.readlink(link) == "other"
    promote(link, runs / "new", [runs / "other"])  # deleted, and an ancestor
    (runs / "alias").symlink_to(runs)
    promote(link, runs / "old", [runs / "alias" / "new"])  # by another name
    assert (link / "config.json").read_text() == "old"


def test_what_is_no_link_stays(runs):
    before = sorted(path.name for path in runs.iterdir())
    wrong = {"old": "exists, and is no link", "new": "is --out, too", "old/config.json/x": "is a file, not a folder"}
    for link, error in wrong.items():
        with pytest.raises(UsageError, match=error):
            promote(runs / link, runs / "new", [])
    assert sorted(path.name for path in runs.iterdir()) == before


def test_a_kill_between_any_two_changes_leaves_the_old_link_or_the_new_one(runs):
    link, seen, changes, code = runs / "promoted", [], 0, None
    while code != 0:
        promote(link, runs / "old", [runs / "new"])
        with start(link, runs / "old", runs / "new", changes) as process:
            code = process.wait()
        assert code in (0, -signal.SIGKILL)
        seen.append((link / "config.json").read_text())
        changes += 1
    assert seen[0] == "old" and seen[-1] == "new" and seen == sorted(seen, reverse=True) and len(seen) > 4
    assert sorted(path.name for path in runs.iterdir()) == ["new", "old", "promoted"]  # what kills had left is deleted


def test_a_kill_at_any_moment_leaves_one_of_the_two(runs):
    link, draw, seen = runs / "promoted", random.Random(0), set()
    promote(link, runs / "old", [])
    for _ in range(8):
        with start(link, runs / "old", runs / "new", -1) as process:
            process.stdout.readline()
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
        seen.add((link / "config.json").read_text())
    assert seen <= {"old", "new"}
