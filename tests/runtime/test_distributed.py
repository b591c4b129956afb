"""Real processes on this machine, with CPU devices and gloo between them, and threads that take themselves for such."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxgpt import console, progress_bar
from jaxgpt.commands import train
from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.runtime import distributed
from jaxgpt.runtime.distributed import HEARTBEAT_S, ProcessInfo, detect_process

RUN = """
import sys
sys.path.insert(0, {root!r})
from jaxgpt.commands import train
from jaxgpt import console
from jaxgpt.runs import storage
from jaxgpt.runtime import distributed
{prelude}
console.leave(console.run(train.main, sys.argv[1:]))
"""
MODEL = ["--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "16", "--B", "4", "--T", "8"]
FLAGS = [*MODEL, "--lr", "1e-2", "--data", "text.txt"]


@pytest.mark.parametrize("id", [0, 1])
def test_the_progress_is_that_of_process_0(id, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("JAXGPT_PROGRESS")
    monkeypatch.setattr(progress_bar, "REFRESH_S", 0.01)
    monkeypatch.setattr(progress_bar, "_lines", progress_bar.Lines())
    for name in ("_initialize", "_report_abort_in_one_line"):
        monkeypatch.setattr(distributed, name, lambda *_: None)
    process = ProcessInfo(2, id, "host:1", ())
    with distributed.distributed_context(process, tmp_path), progress_bar.stage("compiling", quiet_s=0):
        time.sleep(0.1)
    assert capfd.readouterr().err.count("progress: compiling") == (id == 0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text(" ".join(f"word{n % 37}" for n in range(2000)))
    return tmp_path


def start(folder, count, *words, devices=1, preludes=None, only=None, srun=False):
    """`count` processes of one run, or those of them in `only`; `preludes` is code that some run first, by id.

    They are told of each other by flags, or by the variables of SLURM's srun.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAXGPT_CACHE": str(folder / "cache")}
    started = []
    for id in range(count) if only is None else only:
        code = RUN.format(root=os.getcwd(), prelude=(preludes or {}).get(id, ""))
        where = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count), "--process-id", str(id)]
        slurm = {"JOB_ID": port, "STEP_NODELIST": "localhost", "NTASKS": count, "STEP_NUM_TASKS": count}
        slurm |= {"STEP_NUM_NODES": 1, "PROCID": id, "LOCALID": id}
        mine = {f"SLURM_{name}": str(value) for name, value in slurm.items()} if srun else {}
        command = [sys.executable, "-c", code, *FLAGS, *words, *(where if count > 1 and not srun else [])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, env=environment | mine, **pipes))
    return started


def finish(started):
    """[(exit code, stdout, stderr)]"""
    try:
        said = [process.communicate(timeout=120) for process in started]
        return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]
    finally:
        for process in started:
            process.kill()


def run(*arguments, **options):
    return finish(start(*arguments, **options))


def alone(folder, monkeypatch, *words):
    """The exit code of a run of one process, which is this one."""
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        return console.run(train.main, [*FLAGS, *words])


def rows(folder, out):
    return [json.loads(line) for line in (folder / out / "log.jsonl").read_text().splitlines()]


def wait_for_rows(folder, out, count):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        log = folder / out / "log.jsonl"
        if log.exists() and log.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{out} has no {count} rows after a minute")


# ---- Real processes


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a run of two processes, of which one was killed; what the other gave, in how many seconds."""
    folder, sooner = tmp_path_factory.mktemp("killed"), "distributed.HEARTBEAT_S = 8"
    (folder / "text.txt").write_text(" ".join(f"word{n % 37}" for n in range(2000)))
    words = ["--out", "run", "--steps", "1000000", "--save-every", "2"]
    started = start(folder, 2, *words, preludes={0: sooner, 1: sooner})
    wait_for_rows(folder, "run", 5)
    started[1].kill()
    at = time.monotonic()
    survivor, _ = finish(started)
    return folder, survivor, time.monotonic() - at


def test_when_one_of_two_is_killed_the_other_ends_in_one_line(killed):
    _, (code, out, err), seconds = killed
    assert code == 75 and seconds < 8 + 15
    assert err.startswith("error: another process of this run is gone or hangs; run the same command")
    assert err.count("\n") == 1 and "2 devices of 2 processes as data=2" in out


@pytest.mark.slow
def test_one_process_goes_on_with_the_run_of_two_which_was_that_of_one(killed, monkeypatch):
    folder, *_ = killed
    steps = str(len(rows(folder, "run")) + 2)
    assert alone(folder, monkeypatch, "--out", "run", "--steps", steps) == 0
    assert alone(folder, monkeypatch, "--out", "one", "--steps", steps) == 0
    for row, other in zip(rows(folder, "run"), rows(folder, "one"), strict=True):
        assert (row["step"], row["position"]) == (other["step"], other["position"])
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
    assert rows(folder, "run")[-1]["loss"] < rows(folder, "run")[0]["loss"]


@pytest.mark.slow
def test_other_numbers_of_processes_go_on_with_the_same_run(folder, monkeypatch):
    """Four processes, then two of two devices, then one: the losses of one process that trains undisturbed."""
    more = ("--dropout", "0.1", "--val", "0.1", "--eval-every", "4")
    assert alone(folder, monkeypatch, "--out", "one", "--steps", "12", *more) == 0
    four = run(folder, 4, "--out", "run", "--steps", "4", "--mesh", "data=2,fsdp=2", *more)
    two = run(folder, 2, "--out", "run", "--steps", "8", *more, devices=2, srun=True)
    one = run(folder, 1, "--out", "run", "--steps", "12", *more)
    assert [(code, err) for code, _, err in (*four, *two, *one)] == [(0, "")] * 7
    assert [out.count("\n") for _, out, _ in (*four[1:], *two[1:])] == [1] * 4  # the first one prints
    assert re.fullmatch(r"process   3 of 4, which meet at 127.*:\d+; process 0 prints the progress\n", four[3][1])
    assert "4 devices of 4 processes as data=2,fsdp=2" in four[0][1]
    assert "4 devices of 2 processes as data=4" in two[0][1]
    assert "resumes from step 4, position 128, to 8 steps" in two[0][1]
    assert sorted(path.name for path in (folder / "run" / "checkpoints").iterdir()) == ["12", "4", "8"]
    for row, other in zip(rows(folder, "run"), rows(folder, "one"), strict=True):
        assert (row["step"], row["position"]) == (other["step"], other["position"])
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row.get("val_loss") == pytest.approx(other.get("val_loss"), abs=1e-5)
    assert [row["step"] for row in rows(folder, "run") if "val_loss" in row] == [3, 7, 11]
    assert rows(folder, "run")[-1]["loss"] < rows(folder, "run")[0]["loss"] - 0.5


@pytest.mark.slow
def test_when_one_is_lost_the_other_ends_and_the_command_goes_on(folder):
    """Process 0 is killed, then process 1 stopped; each start resumes from the last checkpoint of the one before.

    The last start ends by a signal to the second process, which is a stop of both.
    """
    sooner = "distributed.HEARTBEAT_S = 8"
    words, more = ["--out", "run", "--steps", "100000", "--save-every", "5"], 0
    for victim, number in enumerate((signal.SIGKILL, signal.SIGSTOP)):
        started = start(folder, 2, *words, preludes={0: sooner, 1: sooner})
        wait_for_rows(folder, "run", more + 12)
        lost, survivor = started[victim], started[1 - victim]
        lost.send_signal(number)
        at = time.monotonic()
        said, err = survivor.communicate(timeout=60)
        assert time.monotonic() - at < 8 + 15, (victim, number)
        assert survivor.returncode == 75, (victim, number)
        assert err.startswith("error: another process of this run is gone or hangs; run the same command")
        assert err.count("\n") == 1
        lost.kill()
        others, _ = lost.communicate()
        assert ("resumes from step " in (said if victim else others)) == (more > 0), (victim, number)
        more = len(rows(folder, "run"))
    started = start(folder, 2, *words)
    wait_for_rows(folder, "run", more + 3)
    started[1].send_signal(signal.SIGTERM)
    (code, out, err), (other_code, _, other_err) = finish(started)
    assert (code, other_code, err) == (143, 143, "")
    assert other_err == "\nstopping after the step in progress; once more quits at once\n"
    assert "resumes from step " in out
    steps = len(rows(folder, "run"))
    assert (
        f"stopped   after {steps} of 100,000 steps, saved in run/checkpoints/{steps}, because another process got"
        in out
    )
    assert (folder / "run" / "checkpoints" / str(steps)).exists()
    assert [row["step"] for row in rows(folder, "run")] == list(range(steps))


@pytest.mark.slow
def test_processes_must_have_the_same_flags(folder):
    """Each but the first has another one; all say what is not the same, and each its own."""
    others = {1: ["--seed", "5"], 2: ["--fresh"], 3: ["--num-processes", "5"]}
    preludes = {id: f"sys.argv += {words}" for id, words in others.items()}
    ended = run(folder, 4, "--out", "run", "--steps", "4", preludes=preludes)
    assert [code for code, _, _ in ended] == [2] * 4
    for (_, _, err), own in zip(ended, (None, "seed is 5", "fresh is True", "num_processes is 5"), strict=True):
        alike = {"seed": "seed is 0", "fresh": "fresh is False", "num_processes": "num_processes is 4"}
        said = sorted(own if own and own.startswith(name) else fact for name, fact in alike.items())
        assert err.startswith("error: not all processes have the same flags and text: ") and err.count("\n") == 1
        named, _, advice = err.split("same flags and text: ")[1].partition("; ")
        assert sorted(named.removesuffix(" here").split(" here, ")) == said
        assert advice == "start all with the same command\n"
    assert not (folder / "run" / "checkpoints").exists()


BUG = "from jaxgpt.data import text; text.next_batch = lambda *_: 1 / 0"
NO_READER = "import os; os.close(1); os.open('/dev/full', os.O_WRONLY)"


@pytest.mark.slow
@pytest.mark.parametrize(
    "id, prelude, code, says",
    [(1, BUG, 1, "ZeroDivisionError"), (0, NO_READER, 1, "No space left on device")],
)
def test_an_error_of_one_ends_all_and_is_told_by_the_one(folder, id, prelude, code, says):
    begun = time.monotonic()
    ended = run(folder, 2, "--out", "run", "--steps", "4", preludes={id: prelude})
    assert time.monotonic() - begun < HEARTBEAT_S + 30
    assert (ended[id][0], ended[1 - id][0]) == (code, 75)
    assert says in ended[id][2]
    assert (
        ended[1 - id][2].startswith("error: another process of this run is gone") and ended[1 - id][2].count("\n") == 1
    )


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_all(folder):
    ended = run(folder, 2, "--out", "run", "--steps", "9", "--lr", "1e30", "--save-every", "1")
    assert [code for code, _, _ in ended] == [5, 5]
    assert all(err.startswith("error: step ") and err.count("\n") == 1 for _, _, err in ended)


@pytest.mark.slow
def test_weights_of_a_run_and_a_fresh_start(folder, monkeypatch):
    assert alone(folder, monkeypatch, "--out", "one", "--steps", "3") == 0
    words = ["--init-from", "one", "--out", "run", "--steps", "2"]
    assert alone(folder, monkeypatch, *words) == 0
    undisturbed = rows(folder, "run")
    ended = run(folder, 2, *words, "--mesh", "fsdp=2", "--fresh")
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 2
    assert "--fresh: deleted the run that was in run" in ended[0][1] and "from the weights of" in ended[0][1]
    assert [row["loss"] for row in rows(folder, "run")] == pytest.approx([row["loss"] for row in undisturbed], abs=1e-5)


@pytest.mark.slow
def test_a_folder_that_is_not_the_same_for_all(folder):
    ended = run(folder, 2, "--out", "run", "--steps", "4", preludes={1: "sys.argv += ['--out', 'elsewhere']"})
    assert [code for code, _, _ in ended] == [2, 2]
    assert ended[1][2] == (
        "error: --out elsewhere of process 1 is not that of process 0: all processes must write to one folder; "
        "give one that all can reach\n"
    )
    assert not list((folder / "run").glob(".shared*")) and not (folder / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_part_that_can_not_be_written_or_read(folder):
    """A part is damaged, which process 1 alone reads; both fall back. Then process 1 can't write its part; both end."""
    full = "import resource; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))"
    preludes = {0: "storage.SAVE_TIMEOUT_S = 5", 1: "storage.SAVE_TIMEOUT_S = 5; " + full}
    words = ["--out", "run", "--mesh", "fsdp=2"]
    assert [code for code, _, _ in run(folder, 2, *words, "--steps", "4", "--save-every", "2")] == [0, 0]
    parts = (folder / "run" / "checkpoints" / "4" / "state" / "ocdbt.process_1").rglob("d/*")
    for part in parts:
        part.write_bytes(part.read_bytes()[:100])
    ended = run(folder, 2, *words, "--steps", "6", preludes=preludes)
    assert "checkpoints/4 is corrupt and can't be used" in ended[0][1] and "resumes from step 2" in ended[0][1]
    assert [code for code, _, _ in ended] in ([4, 4], [4, 75], [75, 4])
    for _, _, err in ended:
        assert err.count("\n") == 1
    assert "could not be saved by all processes" in "".join(err for _, _, err in ended)
    ended = run(folder, 2, *words, "--steps", "6")
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 2
    assert "resumes from step 2" in ended[0][1]
    names = {path.name for path in (folder / "run" / "checkpoints").iterdir()}
    assert names == {"2", "4.damaged", "6"}


@pytest.mark.slow
def test_a_process_that_never_comes(folder):
    ((code, _, err),) = run(folder, 2, "--out", "run", only=[0], preludes={0: "distributed.START_S = 3"})
    assert code == 75 and err.startswith("error: not all processes started within five minutes; start all, each w")
    assert "DEADLINE" in (folder / "run" / "runtime-0.log").read_text()


@pytest.mark.slow
def test_two_processes_with_one_number_end_at_once(folder):
    """Process 0 is not there, for which they would wait five minutes."""
    ended = run(folder, 2, "--out", "run", only=[1, 1])
    remedy = "start all of them again, each with its own --process-id\n"
    assert sorted((code, err) for code, _, err in ended) == [
        (75, f"error: --process-id 1: another process of this run has that number; {remedy}"),
        (75, f"error: two processes of this run have the same number; {remedy}"),
    ]


@pytest.mark.slow
def test_a_port_that_is_taken(folder):
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        ((code, _, err),) = run(
            folder, 2, "--out", "run", only=[0], preludes={0: f"sys.argv += ['--coordinator', {where!r}]"}
        )
    advice = "use another port, unless another process has --process-id 0 as well"
    assert (code, err) == (75, f"error: --coordinator {where}: Address already in use; {advice}\n")


# ---- Threads


@pytest.fixture
def together(monkeypatch):
    """together(*functions): what each gives or raises, each in a thread to which JAX says that it is a process."""
    this = threading.local()

    def together(*functions):
        count, said = len(functions), [None] * len(functions)
        barrier = threading.Barrier(count, timeout=30)  # where one asks more often than another, the test fails

        def gather(value):
            said[this.id] = np.asarray(value)
            barrier.wait()
            every = np.stack(said)
            barrier.wait()
            return every

        def run(id):
            this.id = id
            try:
                return functions[id]()
            except UsageError as error:
                return str(error)

        monkeypatch.setattr(jax, "process_count", lambda: count)
        monkeypatch.setattr(jax, "process_index", lambda: this.id)
        monkeypatch.setattr(multihost_utils, "process_allgather", gather)
        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda value: gather(value)[0])
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))

    return together


@pytest.mark.parametrize("said", [(3,), (3, 7, 5), (0, -1)])
def test_all_know_the_highest_number_and_that_of_the_first(together, said):
    assert together(*(lambda n=n: distributed.max_across_processes(n) for n in said)) == [max(said)] * len(said)
    assert together(*(lambda n=n: distributed.broadcast_from_process_0(n) for n in said)) == [said[0]] * len(said)


@pytest.mark.parametrize("said", [(True,), (False,), (True, True, True), (True, False, True), (False, True)])
def test_all_agree_where_none_is_against_it(together, said):
    assert together(*(lambda good=good: distributed.all_processes(good) for good in said)) == [all(said)] * len(said)


def test_what_is_not_alike_is_named_in_every_process(together):
    """Three of four have one other fact each; all say which, and each its own. As of four real processes, below."""
    facts = {"seed": 0, "fresh": False, "num_processes": 4, "B": 8}
    others = [{}, {"seed": 5}, {"fresh": True}, {"num_processes": 5}]
    told = together(*(lambda other=other: distributed.require_same_on_all_processes(facts | other) for other in others))
    for said, other in zip(told, others, strict=True):
        here = ", ".join(f"{name} is {(facts | other)[name]} here" for name in facts if name != "B")
        assert said == f"not all processes have the same flags and text: {here}; start all with the same command"
    assert together(*[lambda: distributed.require_same_on_all_processes(facts)] * 4) == [None] * 4
    assert together(lambda: distributed.require_same_on_all_processes(facts)) == [None]


def test_a_folder_is_shared_where_all_see_what_the_first_has_put_there(together, tmp_path):
    ours, elsewhere = tmp_path / "ours", tmp_path / "elsewhere"
    for folder in (ours, elsewhere):
        folder.mkdir()
    assert together(*[lambda: distributed.require_shared(ours)] * 3) == [None] * 3
    first, second = together(
        *(lambda folder=folder: distributed.require_shared(folder) for folder in (ours, elsewhere))
    )
    advice = "all processes must write to one folder; give one that all can reach"
    assert first == f"--out {ours}: {advice}"
    assert second == f"--out {elsewhere} of process 1 is not that of process 0: {advice}"
    assert not [*ours.iterdir(), *elsewhere.iterdir()]


def test_a_signal_is_told_a_step_later_among_several_and_at_once_alone(monkeypatch, eight_devices):
    def told():
        received = []
        stop_requested = distributed.make_stop_consensus(received)
        before = [stop_requested(), stop_requested()]
        received.append(signal.SIGTERM)
        return [*before, stop_requested(), stop_requested()]

    assert told() == [False, False, True, True]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert told() == [False, False, False, True]


def test_a_taken_port_is_refused_before_it_is_used():
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RetryableError, match=f"--coordinator {where}: Address already in use; use another port"):
            distributed._require_free(where)
    distributed._require_free(where)


OMPI = {"OMPI_COMM_WORLD_SIZE": "16", "OMPI_COMM_WORLD_RANK": "9", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    "flags, environment, expected",
    [
        ((None, None, None), {}, ProcessInfo()),
        (("a:1", 2, 1), {}, ProcessInfo(2, 1, "a:1")),
        (("[::1]:80", 2, 0), {}, ProcessInfo(2, 0, "[::1]:80")),
        ((None, None, None), {"SLURM_NTASKS": "16", "SLURM_PROCID": "0"}, ProcessInfo()),  # a batch script without srun
        ((None, None, None), SLURM | {"SLURM_STEP_NUM_NODES": "4"}, ProcessInfo(4, 3, None)),
        ((None, None, None), SLURM | {"SLURM_STEP_NUM_NODES": "2"}, ProcessInfo(4, 3, None, (0,))),
        ((None, None, None), SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ProcessInfo()),
        (("a:1", None, None), OMPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, ProcessInfo(16, 9, "a:1", (1,))),
        (("a:1", 4, None), {"JOB_COMPLETION_INDEX": "2"}, ProcessInfo(4, 2, "a:1")),
        ((None, None, None), {"JOB_COMPLETION_INDEX": "2"}, ProcessInfo()),  # a job of processes that are each alone
    ],
    ids=str,
)
def test_which_process_this_is(flags, environment, expected):
    assert detect_process(*flags, environment) == expected


@pytest.mark.parametrize(
    "flags, environment, says",
    [
        (("a:1", None, None), {}, "needs --num-processes, --process-id as well"),
        (("a:1", 4, None), {}, "needs --process-id as well"),
        ((None, 4, 1), {}, "needs --coordinator HOST:PORT as well"),
        ((None, None, None), OMPI, "needs --coordinator HOST:PORT as well"),
        (("a:1", 4, 4), {}, "--process-id 4 is out of range: with --num-processes 4 it must be from 0 to 3"),
        (("a:1", 0, 0), {}, "--num-processes 0 is out of range: it must be at least 1"),
        (("a", 2, 0), {}, "--coordinator a is not HOST:PORT"),
        (("a:x", 2, 0), {}, "--coordinator a:x is not HOST:PORT"),
        ((":99999", 2, 0), {}, "--coordinator :99999 is not HOST:PORT"),
    ],
    ids=str,
)
def test_which_process_this_can_not_be(flags, environment, says):
    with pytest.raises(UsageError) as error:
        detect_process(*flags, environment)
    assert says in str(error.value)
