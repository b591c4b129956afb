import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt import cli, documents, prepare, shards

ROOT = Path(__file__).parent.parent


def run(*words):
    return cli.run(prepare.main, list(map(str, words)))


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.bin")}


def report(folder):
    return json.loads((folder / "report.json").read_text())


def prose(seed, words=120):
    """Made of random words, so that no two documents are alike."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(words)) + "."


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A folder of 300 documents in three files, some of them twice, a broken line; as pieces of 10,000 bytes."""
    monkeypatch.setattr(documents, "PIECE_BYTES", 10_000)
    folder = tmp_path / "text"
    folder.mkdir()
    for name, first in (("a", 0), ("b", 90), ("c", 190)):
        lines = [json.dumps({"text": prose(i)}) for i in range(first, first + 100)]
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, "{nope"]) + "\n")
    return folder


def test_any_number_of_workers_makes_the_same_bytes(text, tmp_path, capfd):
    flags = ["--dedup", "minhash", "--pii", "replace", "--canaries", 6, "--val", 0.1, "--shard-tokens", 20_000]
    for workers in (1, 2, 4):
        assert run(text, "--out", tmp_path / f"out{workers}", "--workers", workers, *flags) == 0
    made = shard_bytes(tmp_path / "out1")
    assert len(made) > 4 and made == shard_bytes(tmp_path / "out2") == shard_bytes(tmp_path / "out4")
    for name in ("report.json", "dropped.jsonl", "canaries.json"):
        assert len({(tmp_path / f"out{workers}" / name).read_bytes() for workers in (1, 2, 4)}) == 1
    assert shards.verify(tmp_path / "out4") == len(made) and not (tmp_path / "out4" / "work").exists()
    counts = report(tmp_path / "out1")
    assert counts["records"] == 303 and counts["broken"] == 3 and counts["kept"]["documents"] == 290 + 42
    out, err = capfd.readouterr()
    assert err == "" and "documents 303 found, 290 kept" in out
    assert "dropped   read 3, exact 10; " in out


def test_the_same_command_says_that_it_is_done_and_another_is_refused(text, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(text, "--out", out, "--workers", 1) == 0
    made, meta = shard_bytes(out), json.loads((out / "meta.json").read_text())
    assert meta["command"] == f"python -m jaxgpt.prepare {text} --out {out} --workers 1"
    capsys.readouterr()
    assert run(text, "--out", out, "--workers", 3) == 0
    assert capsys.readouterr().out.startswith(f"done      {out} is prepared already")
    assert run(text, "--out", out, "--val", 0.2, "--dedup", "none") == 2
    assert f"{out} is prepared already, with another --dedup, --val; choose" in capsys.readouterr().err
    with (text / "a.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    assert run(text, "--out", out) == 2
    assert "from files that have changed since; choose another --out, or --fresh" in capsys.readouterr().err
    assert shard_bytes(out) == made
    assert run(text, "--out", out, "--fresh", "--workers", 1) == 0
    assert shard_bytes(out) != made and shards.verify(out)


def test_killed_again_and_again_it_ends_with_the_same_bytes(text, tmp_path):
    """kill -9 of the real command at ten random moments, its workers left to themselves."""
    out, rng = tmp_path / "out", random.Random(0)
    words = [str(text), "--workers", "2", "--dedup", "minhash", "--val", "0.1"]
    assert run(*words, "--out", tmp_path / "whole") == 0
    code = "import sys; from jaxgpt import cli, documents, prepare\n"
    code += "documents.PIECE_BYTES = 10_000\ncli.leave(cli.run(prepare.main, sys.argv[1:]))"
    command = [sys.executable, "-c", code, *words, "--out", str(out)]
    environment, killed, took = os.environ | {"PYTHONPATH": str(ROOT)}, 0, 4.0
    while killed < 10:
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.5, took))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        if (out / "meta.json").exists():  # it had ended before: from the beginning
            assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
            (out / "meta.json").unlink()
            subprocess.run(["rm", "-r", out])
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
    assert report(out) == report(tmp_path / "whole")
