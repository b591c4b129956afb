"""Every game of tic-tac-toe that a model comes to: its likeliest answers, to all sequences of legal moves."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.environments.base import end_token
from jaxgpt.environments.tic_tac_toe import TicTacToe, transcript
from jaxgpt.errors import UsageError
from jaxgpt.inference.turns import Turns
from jaxgpt.models.base import Generative

BATCH = 256  # positions at a time


def count_tokens(tokenizer: Tokenizer) -> int:
    """The tokens of the longest game."""
    return len(tokenizer.encode(transcript(tuple(range(1, 10)))))


def require_room(context: int, tokenizer: Tokenizer) -> None:
    """Refuse a context, in tokens, that is shorter than a game."""
    if context < (needed := count_tokens(tokenizer)):
        raise UsageError(f"the model's context is {context} tokens, and a game has up to {needed}; use another model")


def make_player(
    model: Generative, tokenizer: Tokenizer, advance: Callable[[float], None] = lambda count: None
) -> Callable[[Sequence[str]], list[tuple[str, bool]]]:
    """What tic_tac_toe.walk calls: transcripts to the model's answers; `advance` counts them."""
    game, T = TicTacToe(), count_tokens(tokenizer)
    end, keys = end_token(game, tokenizer), np.zeros((BATCH, 2), np.uint32)  # nothing is drawn with them

    def choose(texts: Sequence[str]) -> list[tuple[str, bool]]:
        answers = []
        for start in range(0, len(texts), BATCH):
            prompts = [tokenizer.encode(text).tolist() for text in texts[start : start + BATCH]]
            n = len(prompts)
            turns = Turns(model, prompts + prompts[:1] * (BATCH - n), T, end, keys, temperature=0)
            for ids in turns.answer(np.arange(BATCH) < n, game.answer_tokens)[:n]:
                ended = ids[-1] == end
                answers.append((tokenizer.decode(ids[:-1] if ended else ids), ended))
            advance(n)
        return answers

    return choose
