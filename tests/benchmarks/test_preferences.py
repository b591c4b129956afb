"""Answers are drawn by a grammar that knows its own, and the pairs of a model have one that keeps the rule."""

import random

from benchmarks import preferences


def test_the_grammar_knows_its_answers():
    draw = random.Random(0)
    requests = preferences.draw_requests(draw)
    answers = [preferences.draw_answer(draw, request) for request in requests]
    assert len({*requests}) == 6000
    assert all(map(preferences.is_in_grammar, requests, answers))
    for request, (other, answer) in zip(requests[1:], zip(requests, answers, strict=True), strict=False):
        alike = preferences.find_words(request) == preferences.find_words(other)
        assert preferences.is_in_grammar(request, answer) == alike
    assert not any(preferences.is_in_grammar(requests[0], answers[0] + more) for more in (" ", ".", answers[0]))
    kept = sum(not preferences.breaks_rule(answer) for answer in answers)
    assert abs(kept / 6000 - (2 / 3) ** 2) < 0.02


def test_pairs_have_one_answer_that_keeps_the_rule(monkeypatch, tmp_path):
    answers = {0: ["very a", "b", "very c", "d"], 1: ["e", "very f", "very g", "h"]}
    monkeypatch.setattr(preferences, "sample", lambda folder, requests, seed: answers[seed])
    pairs = preferences.make_pairs(tmp_path, ["1", "2", "3", "4"], seed=0)
    assert [(pair["prompt"], pair["chosen"], pair["rejected"]) for pair in pairs] == [
        ("1", "e", "very a"),
        ("2", "b", "very f"),
    ]
