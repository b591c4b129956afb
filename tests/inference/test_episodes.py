"""Transcripts of an environment that remembers what it was told."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgpt.errors import DataError
from jaxgpt.inference.episodes import play
from jaxgpt.models.configs import GPT2Config
from tests.support.models import forward, random_model
from tests.support.talk import LETTERS, TOKENIZER, Talk

T = 16
MODEL = random_model(GPT2Config(vocab_size=len(LETTERS), block_size=T, n_layer=2, n_head=2, n_embd=8), 0.3)
LEVELS, SEEDS = [0, 1, 2, 3, 4, 6, 0, 0], range(8)
KEYS = np.random.default_rng(0).integers(0, 2**32, (8, 2), dtype=np.uint32)


def play_all(talk, answer_tokens=3, levels=LEVELS):
    return play(MODEL, talk, levels, SEEDS, TOKENIZER, T, answer_tokens, KEYS)


@pytest.mark.parametrize("talk", [Talk(), Talk(itself=True), Talk(says=3, max_answers=9)])
def test_a_transcript_is_what_was_said_and_what_was_answered(talk):
    talk = dataclasses.replace(talk)
    transcripts = play_all(talk)
    for each, told in zip(transcripts, talk.started, strict=True):
        text, learned, column = TOKENIZER.decode(each.tokens), np.zeros(len(each.tokens), bool), len(told.prompt)
        assert text.startswith(told.prompt) and each.num_prompt == column and each.reward == told.reward
        for turn, (answer, ended) in enumerate(zip(told.answers, told.ended, strict=True)):
            answer += "\n" * ended
            assert text[column:].startswith(answer) and (ended or len(answer) == 3 or len(text) == T)
            learned[column : column + len(answer)] = not talk.itself or turn % 2 == 0
            column += len(answer)
            if turn + 1 < talk.max_answers:
                said = "abc"[: (told.seed + turn + 1) % 4] * talk.says
                assert text[column:].startswith(said[: T - column])
                column += len(said)
        assert each.learned.tolist() == learned.tolist() and len(text) == min(column, T)
        is_over = len(told.answers) == talk.max_answers
        assert is_over or len(text) == T
        assert each.cut == (not is_over or not all(told.ended))
    lengths = {len(each.tokens) for each in transcripts}
    assert len(lengths) > 1 or talk.says > 1


def test_log_probs_are_those_of_the_forward_pass():
    for each in play_all(Talk()):
        tokens = np.pad(each.tokens, (0, T - len(each.tokens)))[None]
        every = np.asarray(jax.nn.log_softmax(forward(MODEL, tokens)))[0]
        wanted = every[np.arange(len(each.tokens) - 1), each.tokens[1:]]
        np.testing.assert_allclose(each.log_probs[1:], np.where(each.learned[1:], wanted, 0), atol=1e-5)


def test_an_answer_that_is_cut_is_told_from_one_that_ended():
    talk = Talk(max_answers=1)
    transcripts = play_all(talk, answer_tokens=2)
    for each, told in zip(transcripts, talk.started, strict=True):
        answer = TOKENIZER.decode(each.tokens[each.num_prompt :])
        assert told.answers == [answer.removesuffix("\n")] and told.ended == [answer.endswith("\n")]
        assert each.cut != told.ended[0] and (told.ended[0] or len(answer) == 2)
    assert {each.cut for each in transcripts} == {True, False}


def test_a_prompt_without_room_for_an_answer_is_refused_in_one_line():
    talk = Talk()
    with pytest.raises(DataError) as error:
        play(MODEL, talk, [0, 4], range(2), TOKENIZER, 5, 3, KEYS[:2])
    room = "talk: level 4 has a prompt of 5 tokens, and an episode of 5 takes 1 to 4"
    assert str(error.value) == f"{room}; use a larger --T, or a model with a longer context"
