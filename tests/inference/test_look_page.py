"""The page of `jaxgpt look`: its tables have the numbers, and what tokens contain stays text."""

import re

import numpy as np

from jaxgpt.inference.look_page import largest_heads, render_attribution, render_findings, render_maps

HOSTILE = '<script>alert("x")</script>\x1b[2J\u202e'


def findings(T=3):
    draw, L, H = np.random.default_rng(0), 2, 3
    shares = {"token": 1.0, "position": 0.5, "final_bias": -0.25}
    shares = {name: np.float32(value) for name, value in shares.items()}
    shares |= {"heads": draw.normal(size=(L, H)), "attention_biases": draw.normal(size=L), "mlps": draw.normal(size=L)}
    answer = {"token": HOSTILE, "id": 7, "logit": 2.5, "probability": 0.125}
    attention = np.tril(draw.random((L, H, T, T)))
    return {
        "model": HOSTILE,
        "tokens": [HOSTILE] * T,
        "answers": [answer, answer],
        "lens": {"tokens": [[[HOSTILE]] * T] * (L + 1), "probabilities": draw.random((L + 1, T, 1))},
        "attribution": [shares, shares],
        "scores": {"induction": draw.random((L, H)), "previous_token": draw.random((L, H))},
        "attention": attention,
        "patching": {
            "tokens": [HOSTILE] * T,
            "logit_differences": [1.0, 2.0],
            "heads": draw.random((L, H)),
            "positions": draw.random((L, T)),
        },
    }


def test_what_is_hostile_stays_text_and_nothing_is_fetched():
    page = render_findings(findings())
    assert "&lt;script&gt;alert" in page and not re.search(r"<script|\x1b|\u202e|<link|@import", page)
    assert not re.search(r"(src|href|url)\s*[=(]", page)
    cells = [9, 10, 10, 18, 6, 6, 6, 6, 6]  # lens, twice the shares, attention, maps, two scores, twice patching
    assert [table.count("<td") for table in page.split("<table")[1:]] == cells
    without = render_findings(findings() | {"patching": None})
    assert len(without) < len(page) and "Patching" not in without


def test_shares_are_shown_with_their_sum_and_coloured_by_sign_and_size():
    shares = findings()["attribution"][0]
    shares["heads"][:] = [[4, -2, 0], [1, 1, 1]]
    shares["attention_biases"][:], shares["mlps"][:] = 0, [0.5, 0.25]
    page = render_attribution("title", shares)
    assert re.findall(r"rgba\((\d+),\d+,\d+,([\d.]+)\)", page)[:3] == [("0", "0.75"), ("213", "0.38"), ("213", "0.00")]
    assert "token embedding +1.0000, position embedding +0.5000, ln_f&#x27;s bias -0.2500" in page
    assert "the sum of all is +7.0000" in page  # 4 - 2 + 3, 0.75 and 1.25


def test_the_largest_heads_are_those_farthest_from_zero():
    assert largest_heads(np.array([[1, -5, 2], [4, 0, 3]]), 3) == [(0, 1), (1, 0), (1, 2)]


def test_each_head_has_a_map_of_its_attention():
    attention = np.zeros((1, 2, 3, 3))
    attention[0, 0] = np.eye(3)
    attention[0, 1, 2] = [0, 0.5, 0.5]
    page = render_maps(attention)
    assert re.findall(r'<path opacity="([\d.]+)" d="([^"]*)"/>', page) == [
        ("1.00", "M0 0h1v1h-1zM1 1h1v1h-1zM2 2h1v1h-1z"),
        ("0.50", "M1 2h1v1h-1zM2 2h1v1h-1z"),
    ]
    long = np.zeros((1, 1, 640, 640))
    long[0, 0, 639, 25] = 1  # a cell is the highest of 10 by 10
    assert '<svg viewBox="0 0 64 64"><path opacity="1.00" d="M2 63h1v1h-1z"/></svg>' in render_maps(long)
