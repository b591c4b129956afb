"""Scripted annotators over HTTP: what they say, and what `jaxgpt agreement` finds of it."""

import contextlib
import json
import random

import pytest

from benchmarks import review
from jaxgpt import console
from jaxgpt.commands import agreement
from tests.support.servers import Server

CODE = """
from pathlib import Path
from tests.support.review_server import serve
serve(Path({prompts!r}), Path({out!r}), {annotators!r}, per_item={per_item})
"""


def test_the_rule_and_one_who_errs():
    rule = [review.prefer_few("", answers) for answers in (["a very b", "c"], ["a", "very very"], ["very", "very"])]
    assert rule == [2, 1, "tie"]
    hasty = review.make_hasty(review.prefer_few, seed=0)
    choices = [hasty("", ["very", ""]) for _ in range(2000)]
    assert choices.count(1) == pytest.approx(200, abs=40) and choices.count(1) + choices.count(2) == 2000


def judge(folder, prompts, annotators):
    """Have annotators judge everything over HTTP; the numbers of `jaxgpt agreement`."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    out = folder / "prefs.jsonl"
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    code = CODE.format(
        prompts=str(folder / "prompts.jsonl"), out=str(out), annotators=[*annotators], per_item=len(annotators)
    )
    with Server(code=code) as server:
        for url, choose in zip(server.urls, annotators.values(), strict=True):
            with contextlib.closing(review.Reviewer(url)) as reviewer:
                counts = reviewer.judge_all(choose)
            assert sum(counts.values()) == len(prompts)
    assert console.run(agreement.main, [str(out), "--json", str(folder / "numbers.json")]) == 0
    return json.loads((folder / "numbers.json").read_text())


@pytest.mark.slow
def test_a_random_clicker_has_no_position_bias(tmp_path):
    draw = random.Random(0)
    numbers = judge(tmp_path, [f"p{n}" for n in range(1000)], {"random": lambda *_: draw.choice((1, 2))})
    (bias,) = numbers["position"]
    assert bias["decided"] == 1000 and bias["low"] < 0 < bias["high"]
    rates = {row["model"].split()[0]: (row["low"], row["high"]) for row in numbers["win_rate"]}
    assert rates.keys() == {"brass", "copper"} and all(low < 0.5 < high for low, high in rates.values())


def test_two_who_know_the_rule_and_err_agree_as_theory_has_it(tmp_path):
    def prefer(prompt, answers):  # "one" for an even number, whatever the place
        return 1 + answers.index(f" {prompt}, {('one', 'two')[int(prompt) % 2]}")

    prompts = [*map(str, range(150))]
    numbers = judge(tmp_path, prompts, {name: review.make_hasty(prefer, seed) for seed, name in enumerate("ab")})
    (kappa,) = numbers["kappa"]
    assert kappa["items"] == 150 and kappa["low"] < 0.64 < kappa["high"]
    assert len(numbers["disputes"]) == 150 - kappa["alike"]
    assert all(row["low"] < 0 < row["high"] for row in numbers["position"])
