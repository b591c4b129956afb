"""A model card against the run's files, and read by the hub's own parser."""

import json

import pytest

from jaxgpt.models.configs import BertConfig, GPT2Config
from jaxgpt.reports.logged_run import load_runs
from jaxgpt.reports.model_card import EXTRACTABLE, NO_SECRET, UNMEASURED, choose_task, render_model_card
from jaxgpt.runs.weights import WeightsRef
from tests.reports.test_cards import FLAGS, folder, read_tables  # noqa: F401 -- folder is a fixture
from tests.support.run_folders import make_rows, write_log, write_run

CONFIG = GPT2Config(vocab_size=300, block_size=32, n_layer=2, n_head=2, n_embd=8)
PRIVACY = {
    "epsilon": 8.0,
    "delta": 1e-5,
    "clip": 1.0,
    "noise_multiplier": 0.7,
    "unit": "example",
    "sampling_rate": 0.01,
}
LINEAGE = {
    "format": 1,
    "run": "r2",
    "created": "2026-11-30T12:00:00+00:00",
    "parents": [{"run": "runs/|old", "id": "r1", "step": 300}],
    "data": [{"name": "data/new", "fingerprint": "f" * 64, "share": 0.95, "role": "new"}],
    "gates": [{"name": "old loss", "before": 3.1, "after": 3.25, "limit": 0.02, "passed": False}],
    "promoted": False,
}


@pytest.fixture
def card(tmp_path):
    """card(step, **config): the card of a run of 60 steps after so many of them."""

    def render(step=60, licence=None, source=None, parameters=1234, files=None, rows=None, **config):
        run = tmp_path / "run"
        if not run.exists():
            write_run(run, rows or make_rows(), device_name="CPU", **config)
        for name, content in (files or {}).items():
            (run / name).write_text(json.dumps(content))
        (loaded,) = load_runs([run])
        return render_model_card(loaded, source or WeightsRef("run", CONFIG, True, run), step, parameters, licence)

    return render


def section(card, title):
    return card.split(f"# {title}\n\n")[1].split("\n\n#")[0].rstrip("\n")


def test_its_numbers_are_those_of_the_log(card):
    rows = make_rows()
    text = card(step=45, rows=rows)
    found = read_tables(text)
    assert found["parameters"] == ["1,234"] and found["n_layer"] == ["2"] and found["vocab_size"] == ["300"]
    assert found["steps done"] == ["45"] and found["steps"] == ["60"] and found["lr"] == ["0.003"]
    assert found["tokens trained on"] == [f"{rows[44]['tokens_seen']:,}"]
    assert found["val_loss"] == [f"{rows[39]['val_loss']:,.6g}"] and "validation after 40 steps" in text
    seconds = sum(row["step_ms"] for row in rows[:45]) / 1000
    assert found["time in steps"] == [f"{seconds:.1f} s"] and found["version of jax"] == ["0.10.2"]
    assert section(text, "Privacy") == EXTRACTABLE and section(text, "Bias, Risks, and Limitations") == UNMEASURED
    assert found["began with"] == ["random weights"] and "- **Developed by:** not recorded" in text
    assert section(text, "License") == "not recorded." and text == card(step=45)


def test_the_hub_reads_its_front_matter(card):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.ModelCard(card(licence="apache-2.0", init_from="gpt2")).data.to_dict()
    expected = {"library_name": "transformers", "pipeline_tag": "text-generation", "license": "apache-2.0"}
    assert data == expected | {"base_model": "openai-community/gpt2", "tags": ["jaxgpt"]}


def test_weights_on_this_machine_are_no_base_model_of_the_hub(card):
    text = card(init_from="/home/me/runs/a", val="/home/me/val.txt[-0.1:]", mix="/home/me/a.txt=3,data/b=1")
    assert "base_model" not in text and "- **Finetuned from:** a\n" in text and "/home" not in text
    assert "val.txt" in text and "a.txt=3,data/b=1" in text


def test_the_prepared_folder_is_looked_up(card, folder, tmp_path):  # noqa: F811
    from jaxgpt.data import shards

    huggingface_hub = pytest.importorskip("huggingface_hub")
    known = {"data": str(folder), "fingerprint": shards.open_split(folder, "train").fingerprint}
    text = card(**known)
    data = huggingface_hub.ModelCard(text).data
    assert data.datasets == ["owner/name"] and data.language == FLAGS["language"]
    train = shards.read_meta(folder)["splits"]["train"]["tokens"]
    assert read_tables(text)["epochs"] == [f"{make_rows()[-1]['tokens_seen'] / train:,.6g}"]
    assert str(tmp_path) not in text and "erased" not in text
    meta = json.loads((folder / "meta.json").read_text())
    split = {"fingerprint": known["fingerprint"], "ranges": [[0, 2]], "documents": 1, "text_bytes": 3}
    (folder / "meta.json").write_text(json.dumps(meta | {"erasures": [{"time": "then", "splits": {"train": split}}]}))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["fingerprint"] = shards.open_split(folder, "train").fingerprint
    assert read_tables(card(files={"config.json": config}))["erased since it was prepared"] == [
        "yes: see the data card"
    ]
    (folder / "meta.json").write_text("{")
    assert "epochs" not in read_tables(card())


def test_privacy_is_what_the_run_records(card):
    text = card(step=30, privacy=PRIVACY, rows=[row | {"epsilon": 0.1 * row["step"]} for row in make_rows()])
    found = read_tables(section(text, "Privacy"))
    assert found["delta"] == ["1e-05"] and found["noise_multiplier"] == ["0.7"] and found["unit"] == ["example"]
    assert found["epsilon"] == ["8"] and found["epsilon of the steps done"] == ["2.9"]
    assert "does not hold for the data of the weights that the run began with" in text and EXTRACTABLE not in text
    assert NO_SECRET not in text


def test_a_number_that_is_no_secret_promises_nothing(card):
    assert NO_SECRET in section(card(privacy=PRIVACY | {"is_secret": False}), "Privacy")


def test_evaluations_are_shown_bias_in_a_section_of_its_own(card):
    files = {"eval.json": {"loss": 3.125, "bias": {"gender": {"preferred": 0.625, "pairs": 100}}}, "other.json": [1]}
    rows = make_rows()
    rows[-1]["bias_log_odds"] = 0.25
    text = card(files=files, rows=rows)
    evaluation, bias = (read_tables(section(text, of)) for of in ("Evaluation", "Bias, Risks, and Limitations"))
    assert evaluation["loss"] == ["3.1250"] and "bias_log_odds" not in evaluation and "| number | eval.json |" in text
    assert bias["bias gender preferred"] == ["0.6250"] and bias["bias_log_odds"] == ["0.25"] and "loss" not in bias
    assert section(text, "Evaluation").count("does not record which checkpoint") == 1


def test_lineage_is_what_its_file_says(card):
    text = section(card(files={"lineage.json": LINEAGE}), "Lineage")
    found = read_tables(text)
    assert found["runs/|old"] == ["r1", "300"] and found["promoted"] == ["no"]
    assert found["old loss"] == ["3.1", "3.25", "0.02", "no"] and found["data/new"][1:] == ["0.95", "new"]


@pytest.mark.parametrize("content", [[], "x", {}, {"parents": 3, "gates": [7], "data": {"a": 1}}, {"parents": [{}]}])
def test_files_of_other_forms_are_no_error(card, content):
    text = card(files={"lineage.json": content}, privacy=[1], versions="x", starts=[3], tokenizer_sha256=4)
    assert "## Lineage" in text and EXTRACTABLE in text


def test_a_run_without_rows_has_a_card(card, tmp_path):
    text = card(step=30)
    write_log(tmp_path / "run", [])
    assert section(card(step=30), "Evaluation") == "not recorded." != section(text, "Evaluation")


def test_what_a_model_does_is_named_as_transformers_does():
    encoder = BertConfig(vocab_size=300, block_size=32, n_layer=1, n_head=2, n_embd=8)
    assert choose_task(WeightsRef("a", encoder, True, None)) == "fill-mask"
    assert choose_task(WeightsRef("a", CONFIG, True, None, labels=("x", "y"))) == "text-classification"
