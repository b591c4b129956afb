"""--pairs: what is printed and written, against the numbers of inference/test_judging.py's functions; wrong inputs."""

import dataclasses
import json

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from jaxgpt.commands.evaluate import pairs
from jaxgpt.data.judged import load_judged
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.inference import judging
from jaxgpt.models.configs import BertConfig, GPT2Config
from jaxgpt.runs.huggingface import load, save_hf
from jaxgpt.runs.weights import resolve_weights
from tests.support.models import random_model

CONFIG = GPT2Config(vocab_size=257, block_size=40, n_layer=1, n_head=2, n_embd=16)
WORDS = ("yes", "no", "perhaps", "so", "a", "indeed", "never")
PAIRS = [
    {"prompt": f"{n}:", "chosen": WORDS[n % 7], "rejected": WORDS[(n + 1 + n // 7) % 7], "group": "ab"[n % 2] * (n > 2)}
    for n in range(21)
]
RATED = [{"prompt": pair["prompt"], "completion": pair["chosen"], "good": n % 3 > 0} for n, pair in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def folder(once):
    """A policy, the weights that it came from, some of another tokenizer, and a reward model."""

    def make(folder):
        chars = CharTokenizer.of(["".join(map(chr, range(32, 127)))], has_end=True)
        reward, small = dataclasses.replace(CONFIG, n_labels=1), dataclasses.replace(CONFIG, vocab_size=96)
        encoder = BertConfig(vocab_size=61, block_size=24, n_layer=1, n_head=2, n_embd=16)
        models = {"policy": CONFIG, "base": CONFIG, "reward": reward, "chars": small, "bert": encoder}
        for seed, (name, config) in enumerate(models.items()):
            labels, tokenizer = ("reward",) * config.n_labels, chars if name == "chars" else ByteTokenizer()
            files = tokenizer.hugging_face_files(40, tokenizer.template if labels else None)
            save_hf(random_model(config, seed=seed), folder / name, labels, files, tokenizer)

    return once("judged", make)


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


def scores_of(folder, name, path):
    """The (R, 2) log-probabilities and their means a token, by a model."""
    data, _ = load_judged(path, 4, 40, tokenizer=ByteTokenizer())
    return judging.log_probs(load(resolve_weights(folder / name)), data)


def test_a_policy_is_judged_by_its_log_probabilities_and_by_their_ratio_to_a_reference(folder, write, tmp_path, capsys):
    path = write("pairs.jsonl", PAIRS)
    words = [folder / "policy", "--pairs", path, "--reference", folder / "base", "--json", tmp_path / "out.json"]
    assert run(*words, "--batch-size", 5) == 0
    out, err = capsys.readouterr()
    found = json.loads((tmp_path / "out.json").read_text())["pairs"]
    sums, means = scores_of(folder, "policy", path)
    values = {"log_prob": sums, "mean_log_prob": means, "implicit_reward": sums - scores_of(folder, "base", path)[0]}
    groups = {name: [n for n, pair in enumerate(PAIRS) if pair["group"] == name] for name in ("", "a", "b")}
    assert found.keys() == {"file", "n", "groups", *values} and found["groups"].keys() == {*groups}
    for name, scores in values.items():
        right, margins = scores[:, 0] > scores[:, 1], scores[:, 0] - scores[:, 1]
        assert found[name]["accuracy"] == right.mean() and 0 < right.mean() < 1
        assert found[name]["margin"] == pytest.approx(margins.mean(), abs=1e-5)
        assert found[name]["margin_stderr"] == pytest.approx(margins.std(ddof=1) / np.sqrt(21), abs=1e-5)
        for group, rows in groups.items():
            assert found["groups"][group]["n"] == len(rows)
            assert found["groups"][group][name]["accuracy"] == pytest.approx(right[rows].mean())
    lines, reward = out.splitlines(), found["implicit_reward"]
    assert err == "" and lines[0].startswith("reference ") and lines[1].startswith("model     ")
    assert lines[2] == f"pairs     {path}: 21 examples of preferences, in 21 rows"
    share = f"{reward['accuracy']:.4f} ± {reward['accuracy_stderr']:.4f} of 21, by implicit reward"
    assert lines[5] == f"accuracy  {share}; margin {reward['margin']:.4f} ± {reward['margin_stderr']:.4f}"
    assert "│ (none) │ 3 │" in out and lines[-1] == f"saved     {tmp_path}/out.json"


def test_a_reward_model_beside_a_policy(folder, write, tmp_path, capsys):
    """Pairs without groups, and rated answers."""
    path = write("pairs.jsonl", [{name: pair[name] for name in ("prompt", "chosen", "rejected")} for pair in PAIRS])
    assert run(folder / "policy", "--pairs", path, "--reward", folder / "reward", "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())
    data, _ = load_judged(path, 4, 40, tokenizer=ByteTokenizer())
    model = load(resolve_weights(folder / "reward"))
    rewards = judging.rewards(model, data)
    assert found["pairs"].keys() == {"file", "n", "log_prob", "mean_log_prob"}
    assert found["reward"]["model"] == str(folder / "reward")
    assert found["reward"]["pairs"]["reward"]["accuracy"] == (rewards[:, 0] > rewards[:, 1]).mean()
    rated = write("rated.jsonl", RATED)
    assert run("--reward", folder / "reward", "--pairs", rated, "--json", tmp_path / "b.json") == 0
    found = json.loads((tmp_path / "b.json").read_text())["reward"]["pairs"]["reward"]
    rewards = judging.rewards(model, load_judged(rated, 4, 40, tokenizer=ByteTokenizer())[0])
    assert found == pytest.approx(judging.rating_auc(rewards, np.array([record["good"] for record in RATED])))
    assert f"AUC       {found['auc']:.4f} ± {found['auc_stderr']:.4f} of 21, by reward\n" in capsys.readouterr().out


def test_many_groups_are_no_table(capsys):
    pairs.print_groups({f"group {n}": {} for n in range(51)})
    assert capsys.readouterr().out == "groups    the table of 51 groups is too long for a page; --json has it\n"


def test_a_wrong_input_is_one_line(folder, write, capsys):
    names = {name: folder / name for name in ("policy", "base", "chars", "bert", "reward")}
    names |= {"pairs": write("pairs.jsonl", PAIRS), "texts": write("texts.jsonl", [{"prompt": "a", "completion": "b"}])}
    names |= {"same": write("same.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}])}
    names |= {"long": write("long.jsonl", [{"prompt": "a" * 50, "chosen": "b", "rejected": "c"}])}
    names |= {"empty": write("empty.jsonl", ""), "text": write("text.txt", "so")}
    for line, code, message in (
        (
            "policy --pairs texts",
            3,
            "line 1: its fields are 'prompt', 'completion', and an example has prompt and ch",
        ),
        ("policy --pairs text", 3, "not a file of examples; give a .jsonl, .csv or .tsv of "),
        ("policy --pairs nowhere.jsonl", 3, "nowhere.jsonl: no such file"),
        ("policy --pairs empty", 3, "the file is empty; it needs one JSON object a line"),
        ("policy --pairs same", 3, "no pair is left: 1 pair skipped: what --T 40 leaves of the two answers is"),
        (
            "policy --pairs long",
            3,
            "no pair is left: 1 pair skipped: the prompt alone fills --T 40; use a",
        ),
        ("policy --pairs pairs --T 41", 2, "--T 41 is above the model's context of 40 tokens; use a smaller one"),
        ("policy --pairs pairs --max-windows 3", 2, "--max-windows changes nothing without --data; leave it out"),
        ("policy --data pairs", 3, "judged answers, and --data is a text or completions; name it with --pairs"),
        ("policy --data texts --reference base", 2, "--reference changes nothing without --pairs; leave it out"),
        (
            "policy --choices texts --reward reward",
            2,
            "--reward changes nothing without --data or --pairs; leave",
        ),
        ("policy --pairs pairs --reference chars", 2, "chars: has chars ("),
        ("policy --pairs pairs --reference reward", 4, "reward: a reward model, which writes no text; "),
        ("policy --pairs pairs --reference nowhere", 4, "nowhere: no such folder; weights have the name of"),
        ("policy --pairs pairs --reward base", 4, "base: not a reward model; "),
        ("reward --pairs pairs --reference base", 2, "reward is a reward model, and judges alone; leave it out"),
        ("reward --pairs pairs --choices texts", 2, "is a reward model, measured by --pairs and --data; leave it out"),
        (
            "reward --data text",
            3,
            'text.txt: not a file of examples; give a .jsonl, .csv or .tsv of "prompt" and "',
        ),
        ("reward --data texts --max-windows 2", 2, "--max-windows: "),
        (
            "bert --pairs pairs",
            2,
            "is an encoder, measured by --data and --bias: it predicts no continuation; leave it out",
        ),
        ("--pairs pairs", 2, "no MODEL; name a run folder or other weights, which --help lists"),
        ("--reward reward --data texts --tasks a", 2, "--tasks: no MODEL; name"),
        ("--reward reward --data texts --json texts", 2, "is --data "),
        ("reward --pairs pairs --json pairs", 2, "is --pairs "),
    ):
        assert run(*(names.get(word, word) for word in line.split())) == code, line
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err, (line, err)
