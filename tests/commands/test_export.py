import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxgpt import console
from jaxgpt.commands import export, train
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.inference.generate import generate
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import load, load_hf, save_hf
from jaxgpt.runs.weights import resolve_weights
from tests.reports.test_cards import read_tables
from tests.support import golden

FILES = ["README.md", "config.json", "merges.txt", "model.safetensors", "provenance.json"]
FILES += ["tokenizer.json", "tokenizer_config.json", "vocab.json"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step, with a padded vocabulary."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text("word " * 100)
    words = ["--size", "tiny", "--block-size", "32", "--B", "2", "--T", "16", "--pad-vocab-to-multiple-of", "128"]
    assert (
        console.run(train.main, [*words, "--steps", "1", "--data", f"{folder}/text.txt", "--out", f"{folder}/out"]) == 0
    )
    return folder / "out"


def test_a_run_becomes_a_folder_for_transformers(run, tmp_path, capsys):
    assert console.run(export.main, [str(run), str(tmp_path / "hf")]) == 0
    assert f"exported  {tmp_path}/hf, from the newest checkpoint of {run}\n" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == FILES
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    assert tensors["transformer.wte.weight"].shape == (50257, 64)
    ours, theirs = load(resolve_weights(run)), load_hf(tmp_path / "hf")
    x = np.arange(20)[None]
    apply = jax.jit(lambda model, x: model(x))
    np.testing.assert_allclose(apply(ours, x)[..., :50257], apply(theirs, x), atol=1e-6)
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["eos_token_id"] == 50256
    assert "chat_template" not in json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())


def test_transformers_writes_text_with_the_folder_alone(run, tmp_path):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    assert console.run(export.main, [str(run), str(tmp_path / "hf")]) == 0
    write = transformers.pipeline("text-generation", str(tmp_path / "hf"), device="cpu")
    assert write.tokenizer.model_max_length == 32
    prompts = ["word word", "word", "a word, of more words"]  # of other lengths: a batch is padded
    ours = generate(load(resolve_weights(run)), [encoding().encode(prompt) for prompt in prompts], 8, temperature=0)
    theirs = write(prompts, batch_size=3, max_new_tokens=8, do_sample=False)
    assert [each["generated_text"] for (each,) in theirs] == [
        prompt + encoding().decode(ids) for prompt, ids in zip(prompts, ours, strict=True)
    ]


def test_a_chat_run_answers_messages(run, tmp_path, capsys):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    shutil.copytree(run, tmp_path / "chat")
    facts = json.loads((run / "config.json").read_text())
    (tmp_path / "chat" / "config.json").write_text(json.dumps(facts | {"data_kind": "completions", "is_chat": True}))
    assert console.run(export.main, [str(tmp_path / "chat"), str(tmp_path / "hf")]) == 0
    assert f"{str(tmp_path / 'hf')!r})([{{'role': 'user', 'content': 'Hi!'}}])\n" in capsys.readouterr().out
    answer = transformers.pipeline("text-generation", str(tmp_path / "hf"), device="cpu")
    (theirs,) = answer([{"role": "user", "content": "Hi!"}], max_new_tokens=8, do_sample=False)
    (ids,) = generate(load(resolve_weights(run)), [encoding().encode("User: Hi!\n\nAssistant:")], 8, temperature=0)
    assert theirs["generated_text"][-1] == {"role": "assistant", "content": encoding().decode(ids)}


def test_the_card_says_what_the_run_records_and_stays_if_its_user_amends_it(run, tmp_path, capsys):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    words = [str(run), str(tmp_path / "hf"), "--license", "mit"]
    assert console.run(export.main, words) == 0
    card = tmp_path / "hf" / "README.md"
    assert huggingface_hub.ModelCard(card.read_text()).data.to_dict() == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "license": "mit", "tags": ["jaxgpt"]
    }  # fmt: skip
    (row,) = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    found = read_tables(card.read_text())
    assert found["tokens trained on"] == [str(row["tokens_seen"])] and found["steps done"] == ["1"]
    assert found["parameters"] == [f"{sum(tensor.size for tensor in tensors.values()):,}"]
    card.write_text("mine")
    assert console.run(export.main, words) == 0 and card.read_text() == "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    assert console.run(export.main, [str(run), str(tmp_path / "mine")]) == 2
    assert "there are files in it already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in (tmp_path / "mine").iterdir()] == [("README.md", "mine")]
    assert console.run(export.main, [*words[:2], "--license", "my own"]) == 2
    assert "--license my own: give its name on the hub" in capsys.readouterr().err


KILLED = """
import os, pathlib, sys
from jaxgpt.commands import export

rename = pathlib.Path.replace

def replace(path, target):
    if sys.argv[3] == "late" or target.name != "hf":
        rename(path, target)
    if target.name == "hf":
        os.kill(os.getpid(), 9)

pathlib.Path.replace = replace
export.main(sys.argv[1:3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_killed_export_is_made_by_the_same_command(run, tmp_path, moment, capsys):
    folder, words = tmp_path / "folder", [str(run), str(tmp_path / "folder" / "hf")]
    undisturbed = tmp_path / "undisturbed" / "hf"  # as deep as the other: provenance.json has the way to the run
    assert console.run(export.main, [str(run), str(undisturbed)]) == 0
    expected = {path.name: path.read_bytes() for path in undisturbed.iterdir()}
    assert subprocess.run([sys.executable, "-c", KILLED, *words, moment], timeout=120).returncode == -9
    assert [path.name == "hf" for path in folder.iterdir()] == [moment == "late"]
    assert console.run(export.main, words) == 0
    assert {path.name: path.read_bytes() for path in (folder / "hf").iterdir()} == expected
    assert [path.name for path in folder.iterdir()] == ["hf"]
    (folder / "hf" / "config.json").write_text("{}")  # the user's own by now
    assert console.run(export.main, words) == 2 and "there are files in it already" in capsys.readouterr().err
    assert (folder / "hf" / "config.json").read_text() == "{}"


def test_wrong_folders_are_one_line(run, tiny, tmp_path, capsys):
    complaints = []
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("kept")
    (tmp_path / "file").touch()
    (tmp_path / "starting").mkdir()  # a run without a checkpoint
    (tmp_path / "starting" / "config.json").write_text((run / "config.json").read_text())
    save_hf(GPT2(tiny, jax.random.key(0)), tmp_path / "model")
    for words, code in (
        ([tmp_path / "nowhere", tmp_path / "hf"], 4),
        ([run, tmp_path / "used"], 2),
        ([run, tmp_path / "file" / "hf"], 2),
        ([run, tmp_path / "file"], 2),
        ([tmp_path / "starting", tmp_path / "hf"], 4),
        ([tmp_path / "model", tmp_path / "hf"], 4),
        ([run], 2),
    ):
        assert console.run(export.main, [str(word) for word in words]) == code
        complaints.append(capsys.readouterr().err)
    assert all(complaint.count("\n") == 1 for complaint in complaints)
    assert "no such folder" in complaints[0] and "there are files in it already" in complaints[1]
    assert "choose a folder that can be written" in complaints[2] and "is a file, not a folder" in complaints[3]
    assert "no checkpoint there yet" in complaints[4] and "not a run folder" in complaints[5]
    assert "not given: FOLDER" in complaints[6]
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["mine.txt"] and not (tmp_path / "hf").exists()
