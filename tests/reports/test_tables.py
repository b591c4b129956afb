"""The tables, against the rows and settings that they are made of."""

import html.parser
import shlex
import shutil
import statistics
import tarfile

import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.commands.replay import ReplayConfig
from jaxgpt.data import shards
from jaxgpt.reports import tables
from jaxgpt.reports.logged_run import load_runs
from tests.support.refusals import ARCHIVE
from tests.support.run_folders import START, make_rows, write_run


def read_table(text):
    """The cells of a table's rows; of a part without one: none."""
    rows = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, _: (
        rows.append([]) if tag == "tr" else rows[-1].append("") if tag in ("th", "td") else None
    )
    parser.handle_data = lambda data: rows and rows[-1] and rows[-1].__setitem__(-1, rows[-1][-1] + data.strip("\n"))
    parser.feed(text)
    return rows


def facts_of(text):
    return {name: values if len(values) > 1 else values[0] for name, *values in read_table(text)[1:]}


def test_a_summary_has_the_numbers_of_the_log(tmp_path):
    rows = make_rows()
    rows[50] |= {"loss": None, "skipped": True}
    del rows[30]
    runs = load_runs([write_run(tmp_path / "run", rows, starts=[START | {"step_bytes": 4_012_000_000}])])
    facts = facts_of(tables.summary_table(runs))
    assert facts["memory of a step, on one device"] == "4.01 GB"
    last = [row["loss"] for row in rows[-10:] if row["loss"] is not None]
    assert facts["loss, mean of the last 10 steps"] == f"{statistics.mean(last):.4f}"
    measured = [(row["val_loss"], row["step"] + 1) for row in rows if "val_loss" in row]
    assert facts["validation loss"] == f"{measured[-1][0]:.4f}\u00a0±\u00a00.0100"
    assert facts["best validation loss"] == f"{min(measured)[0]:.4f}\u00a0±\u00a00.0100"
    assert facts["best at step"] == str(min(measured)[1])
    assert facts["tokens/s, median"] == f"{statistics.median(row['tokens_per_s'] for row in rows[1:]):,.0f}"
    assert facts["training time"] == f"{sum(row['step_ms'] for row in rows) / 1000:.1f} s"
    assert facts["steps"] == "60 of 60" and facts["tokens trained on"] == "1,920"
    assert facts["loss spikes"] == "1; 1 step skipped" and facts["steps without a row"] == "1"
    table = read_table(tables.validations_table(runs))
    assert table[1:] == [[str(step), f"{loss:.4f}", "0.0100"] for loss, step in measured]
    others = make_rows(40, seed=1, every=10)
    table = read_table(tables.validations_table([*runs, *load_runs([write_run(tmp_path / "other", others)])]))
    losses = [{row["step"] + 1: f"{row['val_loss']:.4f}" for row in r if "val_loss" in row} for r in (rows, others)]
    shown = {int(row[0]): [cell.partition("\u00a0")[0] for cell in row[1:]] for row in table[1:]}
    assert shown == {step: [each.get(step, "") for each in losses] for step in (10, 20, 30, 40, 60)}
    empty = load_runs([write_run(tmp_path / "empty", [])])
    assert facts_of(tables.summary_table(empty))["loss"] == "no step is in its log yet"
    assert tables.validations_table(empty) == tables.spikes_table(empty[0]) == ""


def test_a_spike_has_the_command_that_shows_its_batch(tmp_path):
    folder = tmp_path / "a run; it's $one"
    rows = make_rows(spikes=(45, 20))
    rows[31] |= {"loss": None, "skipped": True}
    (run,) = load_runs([write_run(folder, rows)])
    table = read_table(tables.spikes_table(run))
    assert [row[0] for row in table[1:]] == ["20", "31", "45"]
    assert table[1][1] == f"{rows[20]['loss']:.4f}" and table[2][1:3] == ["not finite", "skipped"]
    assert table[1][2] == f"{statistics.median(row['loss'] for row in rows[:20]):.4f}"
    words = shlex.split(table[3][3])
    flags = parse(ReplayConfig, words[words.index("replay") + 1 :])
    assert (flags.run, flags.step) == (folder, 45)
    shutil.rmtree(folder)
    (run,) = load_runs([write_run(folder, rows, data_kind="labels")])
    assert "shows no run on labels" in tables.spikes_table(run)


def test_settings_that_differ_are_those_that_differ(tmp_path):
    folders = [
        write_run(tmp_path / str(i), lr=lr, versions={"jax": jax}) for i, (lr, jax) in enumerate([(1, "a"), (2, "b")])
    ]
    folders.append(write_run(tmp_path / "2", lr=2, versions={"jax": "b"}, extra=None))
    runs = load_runs(folders)
    assert facts_of(tables.differences_table(runs)) == {
        "lr": ["1", "2", "2"],
        "version of jax": ["a", "b", "b"],
        "extra": ["none", "none", "-"],
    }
    assert tables.differences_table(runs[:1]) == ""
    assert facts_of(tables.settings_table(runs[:1]))["block_size"] == "32"


def test_lineage_has_the_weights_and_the_starts(tmp_path):
    starts = [START, START | {"step": 30, "B": 4}]
    folder = write_run(tmp_path / "run", init_from="gpt2", starts=starts)
    for name in ("30", "60", "60.damaged"):
        (folder / "checkpoints" / name).mkdir(parents=True)
    facts = facts_of(tables.lineage_table(load_runs([folder])))
    assert facts["began with"] == "gpt2" and facts["checkpoints"] == "30, 60"
    assert facts["began at step 0"].startswith("B 2, T 16") and facts["resumed at step 30"] == "B 4"


def test_the_data_card_has_what_the_prepared_folder_says(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    fingerprint = shards.open_split(tmp_path / "prepared", "train").fingerprint
    run = write_run(tmp_path / "run", data="prepared", cwd=str(tmp_path), fingerprint=fingerprint, labels=["a", "b"])
    facts = facts_of(tables.data_table(load_runs([run])))
    assert (
        facts["corpus"] == "a text"
        and facts["labels"] == '["a", "b"]'
        and facts["SHA-256 of its tokens"] == fingerprint
    )
    assert facts["split train"] == "8 documents, 1,344 tokens, 4,001 bytes of text"
    assert facts["records"] == "12 read, 0 dropped, 0 broken" and "--val 0.3" in facts["made by"]
    other = write_run(tmp_path / "other", data="prepared", cwd=str(tmp_path))
    assert facts_of(tables.data_table(load_runs([other])))["note"] == "it has changed since the run began"
    (tmp_path / "prepared" / "meta.json").write_text('{"format": 1}')
    assert facts_of(tables.data_table(load_runs([run])))["prepared folder"].endswith("can't be read")
    shutil.rmtree(tmp_path / "prepared")
    assert "prepared folder" not in facts_of(tables.data_table(load_runs([run])))


@pytest.mark.parametrize("value", [{"a": [1]}, [], "", 7, None, "\0", 1e308, 999 * "a"])
def test_settings_of_any_type_are_shown(tmp_path, value):
    strange = dict.fromkeys(("B", "steps", "fingerprint", "versions", "starts", "data", "cwd", "lora", "base"), value)
    runs = load_runs([write_run(tmp_path / "run", **strange)])
    for table in (tables.summary_table, tables.settings_table, tables.data_table, tables.lineage_table):
        assert table(runs).startswith("<table>")
