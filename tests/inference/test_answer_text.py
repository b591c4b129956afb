"""An answer as it is written: pieces of bytes in, whole characters out, and why it ended."""

import itertools

import numpy as np
import pytest

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.answer_text import Answer, AnswerText, write_answer
from jaxgpt.inference.chat_format import NEXT_TURN

BYTES = ByteTokenizer()


def pieces(content, sizes):
    """The bytes as tokens, in pieces of these sizes, again and again."""
    tokens, sizes = list(content), itertools.cycle(sizes)
    while tokens:
        size = next(sizes)
        yield tokens[:size]
        tokens = tokens[size:]


@pytest.mark.parametrize("tokenizer", [BYTES, GPT2_TOKENIZER], ids=lambda each: each.name)
def test_a_text_comes_in_whole_characters(tokenizer):
    text = " na\u00efve \U0001f642\U0001f680 \u65e5\u672c\u8a9e \u0451\U0001f926\U0001f3fd\n\n\tend"
    ids, shown = tokenizer.encode(text).tolist(), []
    answer = write_answer(([each] for each in ids), AnswerText(tokenizer, [NEXT_TURN], " "), len(ids) + 1, shown.append)
    assert answer == Answer(text[1:], "stop") and "".join(shown) == text[1:] and len(shown) > 12
    assert all(shown) and "\ufffd" not in "".join(shown)


@pytest.mark.parametrize("number", range(30))
def test_nothing_is_shown_of_the_next_turn_and_all_before_it(number):
    """Against Python's own partition of the whole text, in pieces of any sizes."""
    draw = np.random.default_rng(number)
    parts = ["\n", "\n\n", "User", ":", "\n\nUse", "\n\nUser: x", "\u00e9"]
    text = "".join(draw.choice(parts, draw.integers(1, 12)))
    shown, used = [], []
    stream = (used.append(piece) or piece for piece in pieces(text.encode(), [*draw.integers(0, 4, 5).tolist(), 1]))
    answer = write_answer(stream, AnswerText(BYTES, [NEXT_TURN]), 10**3, shown.append)
    expected, stop, _ = text.partition(NEXT_TURN)
    assert answer == Answer(expected, "stop") and "".join(shown) == expected
    if stop:  # it stops as soon as it knows
        assert len(text.encode()) == sum(map(len, used)) or sum(map(len, used[:-1])) < len((expected + stop).encode())


@pytest.mark.parametrize("number", range(30))
def test_of_several_stops_the_one_that_is_complete_first_ends_the_text(number):
    """Against a search in ever longer beginnings of the text."""
    draw = np.random.default_rng(number)
    text = "".join(draw.choice([*"ab\n"], 40))
    stops = ["".join(draw.choice([*"ab\n"], draw.integers(2, 6))) for _ in range(3)]
    answer = write_answer(pieces(text.encode(), [1]), AnswerText(BYTES, stops), 10**3)
    ends = [end for end in range(len(text) + 1) if text[:end].endswith(tuple(stops))]
    ended = text[: min(ends)] if ends else text
    stop = max((stop for stop in stops if ended.endswith(stop)), key=len, default="") if ends else ""
    assert answer.content == ended.removesuffix(stop)


@pytest.mark.parametrize(
    "text, most, interrupt_at, content, reason",
    [
        (b" Yes.", 9, None, "Yes.", "stop"),
        (b" Yes.", 5, None, "Yes.", "length"),
        (b" Yes.", 9, 3, "Ye", "interrupted"),
        (b" \xf0\x9f\x99", 9, None, "\ufffd", "stop"),  # the model wrote no character
        (b"a\xf0\x9f\x99", 4, None, "a", "length"),  # and here it would have gone on
        (b"a\xf0\x9f\x99", 9, 3, "a", "interrupted"),
        (b"a\n\nUse", 6, None, "a\n\nUse", "length"),
        (b"  code", 9, None, "  code", "stop"),  # more whitespace is the answer's own
        (b" ", 9, None, " ", "stop"),
        (b"", 9, None, "", "stop"),
    ],
)
def test_an_answer_has_a_content_and_a_reason(text, most, interrupt_at, content, reason):
    shown, asked = [], itertools.count(1)
    interrupted = lambda: interrupt_at is not None and next(asked) >= interrupt_at  # noqa: E731
    answer = write_answer(pieces(text, [1]), AnswerText(BYTES, [NEXT_TURN], " "), most, shown.append, interrupted)
    assert answer == Answer(content, reason)
    assert "".join(shown) == content.removeprefix(" ")


def test_without_a_separator_the_content_is_all_that_was_written():
    """As a template of the model's own needs it; what is shown begins without the space."""
    shown = []
    assert write_answer(pieces(b" Yes.", [2]), AnswerText(BYTES), 9, shown.append) == Answer(" Yes.", "stop")
    assert "".join(shown) == "Yes."
