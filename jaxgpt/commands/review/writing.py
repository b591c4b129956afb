"""Answers by served models, as `answers.Answers` asks for them."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from jaxgpt.commands.review.answers import Writer
from jaxgpt.commands.review.config import ReviewConfig
from jaxgpt.commands.review.items import Item
from jaxgpt.inference.answer_text import AnswerText

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.serving.served_model import ServedModel


def make_writer(served: "ServedModel", config: ReviewConfig, ids: Mapping[str, tuple[int, ...]]) -> Writer:
    """What writes a model's answers: those that `sample` writes for the same prompt, flags and seed.

    Args:
      ids: the token ids of each item, by its id.
    """
    from jaxgpt.serving.token_stream import GenerationRequest

    async def write(item: Item, seed: int, add: Callable[[str], object]) -> bool:
        prompt = ids[item.id]
        request = GenerationRequest(
            prompt,
            min(config.max_new_tokens, served.context - len(prompt)),
            config.temperature,
            config.top_k,
            config.top_p,
            served.tokenizer.end,
            served.keys(seed, [prompt])[0],
        )
        text = AnswerText(served.tokenizer) if item.prompt is not None else served.chat_format.new_text()
        async with contextlib.aclosing(served.stream_text(request, text)) as pieces:
            async for piece in pieces:
                add(piece)
        return pieces.finish_reason != "stop"

    return write
