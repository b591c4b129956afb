"""The inverse of the loader, against a scan of all batches of a run, whose tokens are their own numbers."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data.masking import Masked
from jaxgpt.data.reads import Stretch, first_read, position_at
from jaxgpt.data.redaction import merge
from jaxgpt.data.text import Text, Windows

MARK = 1000  # of the second text's tokens, and so on


def make_text(number, N, horizon):
    return Text(f"text {number}", MARK * number + np.arange(N), "abc", B=1, T=1, horizon=horizon)


def scan(data, stretches, steps, horizon):
    """The tokens that each step's batch holds, and its position, by the loader itself."""
    position = 0
    for step in range(steps):
        stretch = [each for each in stretches if each.step <= step][-1]
        sized = dataclasses.replace(data, B=stretch.B, T=stretch.T)
        if step == stretch.step:
            position = sized.resume_position(position)
        batch, following = sized.batch(position)
        yield step, position, {*batch["tokens"].ravel().tolist(), *batch["targets"].ravel().tolist()}
        position = following


@given(st.data())
@settings(max_examples=150)
def test_the_first_step_that_reads_a_range_is_that_of_a_scan(data):
    draw = data.draw
    horizon, T, texts = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    steps = draw(st.integers(1, 40))
    starts = sorted({0, *draw(st.lists(st.integers(1, steps), max_size=2))})
    is_text = texts == 1 and draw(st.booleans())
    sizes = [(draw(st.integers(1, 4)), draw(st.integers(1, 5)) if is_text else T) for _ in starts]
    longest = max(B * T for B, T in sizes) if is_text else T
    parts = [make_text(i, longest + horizon + draw(st.integers(0, 60)), horizon) for i in range(texts)]
    if is_text:
        source = parts[0]
    else:
        weights = tuple(draw(st.integers(1, 4)) for _ in parts)
        seed = draw(st.none() | st.integers(0, 99))
        source = Windows(tuple(parts), weights, seed, "mix" * (texts > 1), B=1, T=T)
    ranges = [
        merge(
            (first, min(first + draw(st.integers(1, 9)), len(part.tokens)))
            for first in draw(st.lists(st.integers(0, len(part.tokens) - 1), max_size=2))
        )
        for part in parts
    ]
    erased = {MARK * i + token for i, pairs in enumerate(ranges) for a, b in pairs.tolist() for token in range(a, b)}
    stretches, position = [], 0
    for step, (B, T_here) in zip(starts, sizes, strict=True):
        if stretches:
            position = position_at(source, stretches[-1], step)
        stretches.append(Stretch(step, B, T_here, position))
    reads = {}
    for step, position, tokens in scan(source, stretches, steps, horizon):
        stretch = [each for each in stretches if each.step <= step][-1]
        found = position_at(source, stretch, step)
        if isinstance(source, Text):
            found = found if found + stretch.B * stretch.T + horizon <= len(source.tokens) else 0
        assert found == position
        reads[step] = not erased.isdisjoint(tokens)
    for stretch, end in zip(stretches, [*starts[1:], steps], strict=True):
        expected = next((step for step in range(stretch.step, end) if reads[step]), None)
        assert first_read(source, ranges, stretch, end) == expected


def test_every_window_is_found_in_every_epoch():
    source = Windows((make_text(0, 83, 1),), seed=4, B=1, T=4)  # 20 windows
    order = [int(source.batch(4 * k)[0]["tokens"][0, 0]) // 4 for k in range(80)]
    for epoch in range(4):
        for window in range(20):
            stretch = Stretch(20 * epoch, 1, 4, 80 * epoch)
            middle = [merge([(4 * window + 1, 4 * window + 2)])]
            assert first_read(source, middle, stretch, 80) == order.index(window, 20 * epoch)


def test_no_window_has_what_is_left_at_the_end_of_a_text():
    text = make_text(0, 19, 1)
    tail = [merge([(17, 19)])]
    for source in (text, Windows((text,), seed=0, B=1, T=4)):
        assert first_read(source, tail, Stretch(0, 1, 4), 10**9) is None
    assert first_read(text, [merge([(16, 17)])], Stretch(0, 1, 4), 10**9) == 3  # a target of the last window


def test_an_encoder_reads_no_target_behind_its_window():
    windows = Windows((make_text(0, 41, 1),), B=1, T=4)
    first_of_second = [merge([(4, 5)])]
    assert first_read(windows, first_of_second, Stretch(0, 1, 4), 99) == 0
    assert first_read(Masked(windows, B=1, T=4), first_of_second, Stretch(0, 1, 4), 99) == 1
