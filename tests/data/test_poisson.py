"""Draws against the binomial distribution, and rows against the table or the text that they are from."""

import dataclasses
import math
import time

import numpy as np
import pytest
from scipy import stats

from jaxgpt.data import erasure, examples, shards
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.formats import UNPACKED
from jaxgpt.data.masking import Masked
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.poisson import Poisson, draw, largest_draw, num_batch_rows, row_units, take
from jaxgpt.data.redaction import merge
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.units import Units, single_rows
from jaxgpt.errors import DataError
from tests.support.erasure import BYTES, make_folder, make_texts, places_of

KEY = bytes(range(16))


@pytest.fixture
def text():
    return Text("text", np.arange(1000, dtype=np.uint16), "f", B=8, T=9)


def poisson(data, B=8, steps=100, **options):
    return Poisson(data, KEY, row_units(data), steps, B=B, **options)


def test_each_unit_is_drawn_at_the_rate_whatever_the_others_are():
    """Chi-square of how often each unit comes, of how many come in a step, and of how often two come together."""
    n, steps, rate = 60, 4000, 0.13
    drawn = np.zeros((steps, n), bool)
    for step in range(steps):
        drawn[step, draw(KEY, step, n, rate)[0]] = True
    counts = drawn.sum(0)
    chi = ((counts - steps * rate) ** 2 / (steps * rate * (1 - rate))).sum()
    assert 0.01 < stats.chi2.sf(chi, n) < 0.99

    sizes = np.bincount(drawn.sum(1), minlength=n + 1)
    expected = steps * stats.binom.pmf(np.arange(n + 1), n, rate)
    common = expected >= 5
    sizes, expected = (np.append(each[common], each[~common].sum()) for each in (sizes, expected))
    assert stats.chisquare(sizes, expected * sizes.sum() / expected.sum()).pvalue > 0.01

    together = (drawn[:, :, None] & drawn[:, None, :]).sum(0)[np.triu_indices(n, 1)]
    z = (together - steps * rate**2) / math.sqrt(steps * rate**2 * (1 - rate**2))
    assert abs(z).max() < stats.norm.isf(0.001 / len(z)) and abs(z.std() - 1) < 0.1
    again = (drawn[1:] & drawn[:-1]).sum() / (n * (steps - 1))  # from a step to the next
    assert abs(again - rate**2) < 4 * math.sqrt(rate**2 / (n * steps))


def test_a_draw_depends_on_the_key_the_step_and_the_unit_alone():
    units, chance = draw(KEY, 5, 3_000_000, 1e-3)
    fewer, same = draw(KEY, 5, 2_000_001, 1e-3)  # more units, and another end of the pieces, change nothing
    assert np.array_equal(units[units < 2_000_001], fewer) and np.array_equal(chance[: len(same)], same)
    word = np.random.Philox(counter=[units[7] // 4, 0, 0, 5], key=np.frombuffer(KEY, "<u8")).random_raw(4)[units[7] % 4]
    assert word / 2.0**64 < 1e-3 and chance[7] == pytest.approx(word / 2.0**64 / 1e-3)
    assert 0 <= chance.min() and chance.max() <= 1 and stats.kstest(chance, "uniform").pvalue > 0.01
    others = [draw(KEY, 6, 3_000_000, 1e-3)[0], draw(KEY[::-1], 5, 3_000_000, 1e-3)[0]]
    assert all(len(np.intersect1d(units, each)) < 20 for each in others)  # 3 by chance
    assert len(draw(KEY, 0, 1000, 1.0)[0]) == 1000 and not len(draw(KEY, 0, 1000, 1e-12)[0])


def test_a_million_units_are_drawn_in_no_time():
    start = time.perf_counter()
    draw(KEY, 1, 1_000_000, 1e-4)
    assert time.perf_counter() - start < 1  # 10 ms, on a machine of its own


@pytest.mark.parametrize(
    "expected, n, steps", [(4, 100, 50), (8, 10**6, 10**4), (64, 1000, 10**5), (512, 10**5, 10**4)]
)
def test_no_step_draws_more_than_a_batch_holds(expected, n, steps):
    most = largest_draw(expected, n, steps)
    tail = stats.binom.sf(most, n, expected / n)
    assert steps * tail < 1e-12 and most < 1.1 * stats.binom.isf(1e-12 / steps, n, expected / n) + 10
    assert largest_draw(expected, expected, steps) == expected  # all of them


def test_rows_of_a_text_share_no_token(text):
    data = poisson(text)
    batch, position = data.batch(3 * 8 * 9)
    assert position == 4 * 8 * 9
    drawn = batch["slot"] >= 0
    assert len(drawn) == data.capacity == num_batch_rows(data) and drawn.sum() == len(draw(KEY, 3, 100, 0.08)[0]) > 0
    for x, y in zip(batch["tokens"][drawn], batch["targets"][drawn], strict=True):
        assert (
            x[0] % 10 == 0 and x.tolist() == list(range(x[0], x[0] + 9)) and y.tolist() == list(range(x[1], x[1] + 9))
        )
    assert {x[0] // 10 for x in batch["tokens"][drawn]} == set(draw(KEY, 3, 100, 0.08)[0].tolist())
    ahead = take(dataclasses.replace(text, horizon=3), np.array([2]), 0)
    assert ahead["tokens"][0, 0] == 24 and ahead["targets"][0, :, -1].tolist() == [33, 34, 35]


@pytest.mark.parametrize("shares, multiple", [(1, 1), (2, 3), (8, 2)])
def test_every_device_gets_as_many_drawn_rows_before_its_filling(text, shares, multiple):
    one, many = poisson(text), poisson(text, shares=shares, multiple=multiple)
    assert many.capacity % (shares * multiple) == 0 and many.capacity >= one.capacity
    batch, whole = many.batch(0)[0], one.batch(0)[0]
    parts = batch["slot"].reshape(shares, -1)
    counts = (parts >= 0).sum(1)
    assert counts.max() - counts.min() <= 1 and all(
        (part[:count] >= 0).all() for part, count in zip(parts, counts, strict=True)
    )
    order = np.argsort(np.where(batch["slot"] >= 0, batch["slot"], 10**6), kind="stable")[: counts.sum()]
    assert np.array_equal(batch["tokens"][order], whole["tokens"][: counts.sum()])
    half = slice(many.capacity // 2, many.capacity)
    assert np.array_equal(dataclasses.replace(many, rows=half).batch(0)[0]["tokens"], batch["tokens"][half])


def test_an_example_is_a_row_of_its_own(write):
    path = write("a.jsonl", [{"prompt": f"{n}", "completion": " yes"} for n in range(40)])
    packed = examples.load(path, 4, 32)[0]
    data = examples.load(path, 4, 32, kinds=UNPACKED)[0]
    assert packed.num_rows() < 10 and data.num_rows() == 40 and data.lines.tolist() == list(range(1, 41))
    batch, _ = poisson(data, B=4).batch(0)
    units, _ = draw(KEY, 0, 40, 0.1)
    assert np.array_equal(batch["tokens"][: len(units)], data.table["tokens"][units])
    assert batch["tokens"].dtype == batch["slot"].dtype == np.int32


def test_of_a_user_who_is_drawn_one_row_comes_each_as_often():
    table = {"tokens": np.arange(12, dtype=np.uint16)[:, None]}
    data = examples.Examples("x", "completions", table, 1, (), 12, "f", (), 0, B=2)
    units = Units(np.arange(12), np.array([0, 1, 4, 12]))
    data = Poisson(data, KEY, units, 3000, B=2)
    counts = np.zeros(12)
    for step in range(3000):
        batch = data.batch(2 * step)[0]
        rows = batch["tokens"][batch["slot"] >= 0, 0]
        assert len({np.searchsorted(units.starts, row, "right") for row in rows}) == len(rows)  # one of each user
        counts[rows] += 1
    expected = 3000 * 2 / 3 / np.repeat([1, 3, 8], [1, 3, 8])
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_masks_depend_on_the_row_and_the_step():
    tokenizer = for_encoder(ByteTokenizer())
    tokens = np.frombuffer(b"some words, and some more of them; " * 20, np.uint8).astype(np.uint16)
    text = Text("text", tokens, "f", tokenizer=tokenizer, B=4, T=20)
    data = Masked(Windows((text,), B=4, T=20), 0.3, 1, B=4, T=20)
    first, again, later = take(data, np.arange(5), 2), take(data, np.array([3, 1]), 2), take(data, np.arange(5), 3)
    assert np.array_equal(first["tokens"][[3, 1]], again["tokens"])
    assert (first["targets"] != later["targets"]).any(1).all()
    hidden = first["targets"] >= 0
    original = tokens[: 5 * 20].reshape(5, 20)
    assert np.array_equal(first["targets"][hidden], original[hidden]) and 0.1 < hidden.mean() < 0.5


@pytest.mark.parametrize("horizon", [1, 2])
def test_what_was_erased_is_no_target(horizon, tmp_path):
    """Against the text's own windows of the same stride, which loader cuts."""
    texts = make_texts(20)
    folder = make_folder(tmp_path / "data", train=texts)
    places = places_of(folder, "train", texts[3])
    erasure.begin(folder, {"train": merge([places])}, {}, BYTES)
    erasure.complete(folder, BYTES)
    tokens = shards.open_split(folder, "train", BYTES)
    text = Text("text", tokens, "f", tokenizer=BYTES, B=1, T=9, horizon=horizon)
    rows = np.arange(len(tokens) // (9 + horizon))
    taken = take(text, rows, 0)
    for row in rows[:-1].tolist():
        expected, _ = text.batch(row * (9 + horizon))
        assert np.array_equal(taken["tokens"][row], expected["tokens"][0])
        assert np.array_equal(taken["targets"][row], expected["targets"][0])
    assert (taken["targets"] == -1).sum() > 50

    tokenizer = for_encoder(BYTES)
    encoder = dataclasses.replace(text, tokenizer=tokenizer, horizon=1)
    hidden = take(Masked(Windows((encoder,), B=1, T=9), 0.9, 1, B=1, T=9), np.arange(len(tokens) // 9), 0)["targets"]
    numbers = np.flatnonzero(hidden.ravel() >= 0)
    assert len(numbers) > 500 and not ((numbers >= places[0]) & (numbers < places[1])).any()


def test_what_has_too_few_tokens_is_refused(text):
    with pytest.raises(DataError, match="no row of 1,201 tokens"):
        row_units(dataclasses.replace(text, T=1200))


def test_a_draw_that_has_no_room_is_an_error(text, monkeypatch):
    data = poisson(text)
    monkeypatch.setattr("jaxgpt.data.poisson.largest_draw", lambda *_: 1)
    with pytest.raises(DataError, match=r"draws .* rows, and 1 have room"):
        dataclasses.replace(data, B=60).batch(0)


def test_what_a_run_asks_is_what_its_data_say(text):
    data = poisson(text)
    assert (data.name, data.kind, data.T, data.B) == ("text", "text", 9, 8)
    assert data.batches_per_epoch() == text.batches_per_epoch() and data.num_rows() == text.num_rows()
    assert data.order_facts() == {"T": 9, "sampling": "Poisson, 8 of 100"} and data.resume_position(5) == 5
    assert str(data) == str(text) and data.num_bytes() == text.num_bytes()
    assert all(np.array_equal(a["tokens"], b["tokens"]) for a, b in zip(data.one_pass(), text.one_pass(), strict=True))
    assert Poisson(text, KEY, single_rows(100), 9, B=50).rate == 0.5
