import json
from pathlib import Path

import pytest

from jaxgpt.commands.update import plan as plans
from jaxgpt.commands.update.config import UpdateConfig
from jaxgpt.data import shards
from jaxgpt.data.datasets import open_data
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.data.text_part import TextPart
from jaxgpt.errors import CheckpointError, DataError, JaxgptError, UsageError
from jaxgpt.runs import folder
from jaxgpt.runs.lineage import write_lineage
from jaxgpt.training.config import TrainConfig

FLAGS = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 16, "B": 2, "T": 8}
START = {"step": 0, "B": 2, "T": 8, "accumulate": 1, "steps": 5, "dtype": "float32", "fingerprint": "f00d"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new", "older", "val"):
        Path(f"{name}.txt").write_text(f"the {name} words of a text " * 40)
    make_run("run", data="old.txt", val="0.1")


def make_run(name, kind="text", steps=(3, 5), **flags):
    """A run's folder as far as an update looks at it before it measures."""
    config = TrainConfig.of(**FLAGS | flags)
    facts = {"data_kind": kind, "labels": [], "is_chat": False, "base": flags.get("init_from"), "vocab_size": 50257}
    for step in steps:
        Path(name, "checkpoints", str(step)).mkdir(parents=True)
    Path(name).mkdir(exist_ok=True)
    folder.write_config(Path(name), config.flat() | facts | {"fingerprint": "f00d"}, START)


def plan(run="run", data="new.txt", out="out", **flags):
    return plans.make_plan(UpdateConfig(Path(run), data, Path(out), **flags))


def shares(mix):
    names, weights = plans.parse_mixture(mix)
    return {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}


def test_the_new_run_begins_with_the_newest_checkpoint_and_has_the_flags_of_the_old_one(tmp_path):
    made, default = plan(), UpdateConfig(Path("run"), "new.txt", Path("out"))
    assert made.train.preset.init_from == f"{tmp_path}/run/checkpoints/5" and (made.parent.name, made.step) == (
        "run",
        5,
    )
    old, new = TrainConfig.of(**FLAGS).flat(), made.train.flat()
    changed = {name for name in old if old[name] != new[name]}
    assert changed == {"init_from", "out", "mix", "val", "val_also", "order", "seed", "steps", "eval_every"} | {
        "schedule",
        "warmup_ratio",
    }
    assert (new["schedule"], new["warmup_ratio"]) == (default.schedule, default.warmup_ratio) and new["seed"] == 1
    assert shares(made.train.data.mix) == {"new.txt[:-0.1]": 0.95, "old.txt[:-0.1]": 0.05}
    assert (made.train.data.val, made.train.data.val_also) == ("new.txt[-0.1:]", "old=old.txt[-0.1:]")
    held = open_data(str(TextPart("old.txt", 0.1, is_end=True)), 2, 8)
    assert made.old["old"].fingerprint == held.fingerprint
    assert [text.name for text in made.data.texts] == ["new.txt", "old.txt"]  # without their ends


def test_the_size_is_that_of_the_weights():
    """A run may have the shape of another size than that which its flags name."""
    make_run("tiny", data="old.txt", val="0.1", n_layer=2, n_head=2, n_embd=64)
    assert plan("tiny").train.preset.size == "tiny"


def test_flags_of_the_command_and_of_train_come_before_those_of_the_run(tmp_path):
    flags = ("B=4", "save-every=7", "n_layer=1")
    made = plan("run/checkpoints/3", lr=0.5, schedule="wsd", cooldown_ratio=0.5, steps=9, eval_every=2, flags=flags)
    assert made.train.preset.init_from == f"{tmp_path}/run/checkpoints/3"
    optimizer, run = made.train.optimizer, made.train.run
    assert (optimizer.lr, optimizer.schedule, optimizer.cooldown_ratio, optimizer.warmup_ratio) == (
        0.5,
        "wsd",
        0.5,
        0.05,
    )
    assert (run.steps, run.eval_every, run.save_every, made.train.data.B, made.new.B) == (9, 2, 7, 4, 4)
    with pytest.raises(UsageError, match=r"--n-layer 2: --init-from .* has 1"):
        plan(flags=("n-layer=2",))
    with pytest.raises(UsageError, match="--nonsense: no such flag"):
        plan(flags=("nonsense=2",))


def test_a_pass_is_one_of_the_new_text():
    tokens = len(open_data("new.txt[:-0.1]", 2, 8).tokens)
    windows = (tokens - 1) // 8
    for replay, epochs in ((0.05, 1.0), (0.5, 2.0), (0.0, 0.3)):
        made = plan(replay=replay, epochs=epochs)
        read = made.train.run.steps * made.data.B * (1 - replay)  # of its windows
        assert epochs * windows <= read < epochs * windows + 2
    assert len(made.data.texts) == 1 and shares(made.train.data.mix) == {"new.txt[:-0.1]": 1}  # nothing is replayed
    Path("short.txt").write_text("a few words")
    with pytest.raises(DataError, match=r"short.txt: too few tokens for one batch"):
        plan(data="short.txt", val="val.txt")


def test_a_run_of_a_mixture_is_replayed_in_its_own_proportions_and_keeps_all_its_validation_texts():
    """So updates of updates remember all that came before."""
    make_run("second", mix="new.txt[:-0.1]=3,old.txt[:-0.1]=1", val="new.txt[-0.1:]", val_also="old=old.txt[-0.1:]")
    made = plan("second", "older.txt", replay=0.2, val="val.txt")
    assert shares(made.train.data.mix) == {"older.txt": 0.8, "new.txt[:-0.1]": 0.15, "old.txt[:-0.1]": 0.05}
    assert made.train.data.val_also == "old=new.txt[-0.1:],old_2=old.txt[-0.1:]"
    made = plan("second", "older.txt", replay=0.0001, old_val=("val.txt", "old.txt"))
    assert min(shares(made.train.data.mix).values()) == pytest.approx(1e-4, rel=0.01)  # a share never becomes 0
    assert made.train.data.val_also == "old=val.txt,old_2=old.txt"
    make_run("file", data="old.txt", val="val.txt")
    made = plan("file")
    assert shares(made.train.data.mix) == {"new.txt[:-0.1]": 0.95, "old.txt": 0.05}
    assert made.train.data.val_also == "old=val.txt"


def test_a_prepared_folder_is_validated_on_its_val_split(tmp_path):
    ids = [encoding().encode_ordinary("some words of a text " * 20)] * 3
    splits = {}
    for name in ("train", "val"):
        written = (
            shards.write(tmp_path / "made", name, ids, 1000) if (tmp_path / "made").mkdir(exist_ok=True) is None else 0
        )
        splits[name] = {"documents": 3, "text_bytes": 9, "shards": written}
    shards.write_meta(tmp_path / "made", splits)
    made = plan(data="made")
    assert (made.train.data.val, made.new.name) == ("made", "made (val)")
    assert shares(made.train.data.mix) == {"made": 0.95, "old.txt[:-0.1]": 0.05}
    make_run("prepared", data="made", val="made")
    assert plan("prepared").old["old"].name == "made (val)"
    assert plan(data="made", val="0.5").train.data.val == "made[-0.5:]"
    assert made.data.tokenizer == GPT2_TOKENIZER


def test_an_update_that_has_begun_keeps_its_checkpoint(tmp_path):
    make_run("out", steps=(1,), init_from=f"{tmp_path}/run/checkpoints/3", data="new.txt")
    assert plan().step == 3  # though the run has trained on
    with pytest.raises(UsageError, match="--out out is RUN, which stays"):
        plan("out")
    content = {"run": "f00d", "step": 1, "created": "then", "gates": [], "data": [], "promoted": False}
    write_lineage(Path("out"), content | {"parents": [{"run": f"{tmp_path}/run", "id": "cafe", "step": 3}]})
    Path("promoted").symlink_to("out")
    made = plan("promoted")  # which this update has moved
    assert (made.parent, made.step) == (tmp_path / "run", 3)
    assert plan("promoted", "older.txt", "other", old_val=("val.txt",)).parent == tmp_path / "out"
    config = json.loads(Path("out/config.json").read_text())
    Path("out/config.json").write_text(json.dumps(config | {"base": None}))
    Path("out/lineage.json").unlink()
    assert plan().step == 5


def test_the_result_is_compared_with_the_run_in_use(tmp_path):
    """Else a run that was refused could be updated, and be promoted with all that it has forgotten."""
    content = {"run": "f00d", "step": 5, "created": "then", "gates": [], "data": [], "promoted": False}
    content |= {"parents": [{"run": f"{tmp_path}/run", "id": "cafe", "step": 5}]}
    make_run("refused", steps=(4,), data="older.txt", val="0.1")
    write_lineage(Path("refused"), content)
    made, link, before = plan("refused"), Path("promoted"), [tmp_path / "gone", tmp_path / "run"]

    def baseline(made=made, is_named=False):
        run, step = plans.find_baseline(made, link, before, is_named)
        return run.name, step

    assert baseline() == ("run", 5)
    write_lineage(Path("refused"), content | {"promoted": "then"})
    assert baseline() == ("refused", 4)
    for in_use, expected in (("run", ("run", 5)), ("gone", ("refused", 4)), ("out", ("refused", 4))):
        link.symlink_to(in_use)  # to `out`: an update that was killed when it had moved the link
        assert baseline() == expected
        link.unlink()
    early = plan("run/checkpoints/3")  # before a cooldown
    assert baseline(early, is_named=True) == ("run", 5) and baseline(early) == ("run", 3)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"run": "nowhere"}, (CheckpointError, "nowhere: no run that has begun")),
        ({"run": "labels"}, (UsageError, "labels: was trained on labels, and an update mixes texts")),
        ({"run": "unvalidated"}, (UsageError, "unvalidated: was trained without --val; name texts .* with --old-val")),
        ({"run": "empty"}, (CheckpointError, "empty: no checkpoint there yet")),
        (
            {"run": "private"},
            (UsageError, "private: a private run, .*--init-from private --dp-epsilon 8 --d"),
        ),
        ({"data": "old.txt"}, (UsageError, "--data old.txt: RUN was trained on it .old.txt..-0.1..; name a text")),
        ({"data": "old.txt[-0.1:]"}, (UsageError, "--data old.txt.-0.1:.: RUN was trained on it")),
        (
            {"data": "older.txt", "old_val": ("older.txt",)},
            (UsageError, "the loss on it .older.txt. tells what is for"),
        ),
        ({"run": "validated", "data": "val.txt"}, (UsageError, "--data val.txt: the loss on it .val.txt. tells")),
        ({"data": "missing.txt"}, (DataError, "missing.txt.*no such file; --data takes")),
        ({"data": "pairs.jsonl"}, (UsageError, "pairs.jsonl.* has examples")),
        ({"val": "1.5"}, (UsageError, "--val 1.5: a fraction")),
        ({"val": "missing.txt"}, (DataError, "missing.txt: no such file")),
        ({"old_val": ("missing.txt",)}, (DataError, "missing.txt: no such file; --old-val takes")),
        ({"out": "run"}, (UsageError, "--out run is RUN")),
        ({"out": "mine"}, (UsageError, "mine: contains notes, which is not from a jaxgpt run")),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_made(tmp_path, words, error):
    make_run("labels", "labels")
    make_run("unvalidated", data="old.txt")
    make_run("empty", steps=(), data="old.txt", val="0.1")
    make_run("validated", data="old.txt", val="val.txt")
    make_run("private", data="old.txt", val="0.1", dp_epsilon=8.0)
    Path("pairs.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 9)
    Path("mine").mkdir()
    Path("mine/notes").touch()
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with pytest.raises(JaxgptError, match=error[1]) as raised:
        plan(**words)
    assert type(raised.value) is error[0]
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
