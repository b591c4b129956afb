"""Talk to a model, turn by turn: `jaxgpt chat runs/chat`."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jaxgpt import console
from jaxgpt.commands.chat.answer import NEXT_TURN, Answer, AnswerText, write_answer
from jaxgpt.commands.chat.config import ChatConfig
from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.commands.chat.script import answer_entries, read_entries
from jaxgpt.commands.chat.terminal import talk
from jaxgpt.commands.flags import parse
from jaxgpt.data.chat import CHAT_TEMPLATE, Message, encode_until_answer
from jaxgpt.data.chat_template import ChatTemplate, read_chat_template
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef, require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Generative


def main(argv: Sequence[str]) -> int:
    config = parse(ChatConfig, argv, command="chat")
    source = resolve_weights(config.model)
    require_text_model(source)
    tokenizer, context = source.tokenizer, source.config.block_size
    tokenizer.require_end("conversations")
    template, is_chat = find_template(source)
    system = [Message("system", config.system)] if config.system else []
    entries = read_entries(config.input) if config.input else None

    def encode(messages: Sequence[Message]) -> list[int]:
        if template is None:
            return encode_until_answer(messages, tokenizer)
        return tokenizer.encode_prompt(template.render(messages))

    conversation = Conversation(encode, context - min(config.max_new_tokens, context // 4), [*system])
    encode([*system, Message("user", "")])  # what is wrong with the system prompt or the template is found here

    from jaxgpt.inference import placement
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    compute, described = placement.select_compute(source.config, config.device, config.dtype)
    console.note(f"{config.model}: {described}")
    if not is_chat:
        what = "not trained on conversations, as far as its files say: it gets the template of docs/chat.md"
        console.note(f"{config.model}: {what}, and an answer ends before the next 'User:'")
    with device.memory_errors("use a smaller model"):
        stop, separator = "" if is_chat else NEXT_TURN, " " if template is None else ""
        new_text = functools.partial(AnswerText, tokenizer, stop, separator)
        answer = make_answer(config, load(source, **compute), tokenizer, new_text)
        if entries is None:
            talk(conversation, answer, config.model)
        else:
            answer_entries(entries, conversation, system, answer)
    return 0


def find_template(source: WeightsRef) -> tuple[ChatTemplate | None, bool]:
    """The model's own template, None for that of data/chat.py; and whether the model was trained on conversations."""
    folders = [] if source.is_run else [each.folder for each in (source, source.adapted) if each and each.folder]
    template = next(filter(None, map(read_chat_template, folders)), None)
    if template is None:
        return None, source.is_chat
    return (None if template.source == CHAT_TEMPLATE else template), True  # that of an exported run needs no jinja2


def make_answer(
    config: ChatConfig, model: "Generative", tokenizer: Tokenizer, new_text: Callable[[], AnswerText]
) -> Callable[..., Answer]:
    """Compile the model's program; returns the function that answers a conversation's last message."""
    import jax
    import numpy as np

    from jaxgpt.inference.prefix_cache import PrefixCache
    from jaxgpt.inference.sampling import make_sampling_params, prompt_keys

    cache, key, context = PrefixCache(model), jax.random.key(config.seed), model.config.block_size
    sampling = make_sampling_params(config.temperature, config.top_k, config.top_p, stop=tokenizer.end)
    with stage("compiling"):  # now, so that a signal ends it at once, and that the first answer is not late
        list(cache.stream([0], 1, sampling, np.zeros(2, np.uint32)))

    def answer(conversation: Conversation, *callbacks: Callable) -> Answer:
        prompt = conversation.prompt()
        most = min(config.max_new_tokens, context + 1 - len(prompt))
        key_of_attempt = prompt_keys(key, [prompt] * (conversation.attempt + 1))[-1]
        ids = cache.stream(prompt, most, sampling, key_of_attempt)
        return write_answer(ids, new_text(), most, *callbacks)

    return answer
