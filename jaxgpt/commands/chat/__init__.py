"""Talk to a model, turn by turn: `jaxgpt chat runs/chat`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jaxgpt import console
from jaxgpt.commands.chat.config import ChatConfig
from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.commands.chat.script import answer_entries, read_entries
from jaxgpt.commands.chat.terminal import talk
from jaxgpt.commands.flags import parse
from jaxgpt.data.chat import Message
from jaxgpt.inference.answer_text import Answer, write_answer
from jaxgpt.inference.chat_format import ChatFormat, find_chat_format
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Generative


def main(argv: Sequence[str]) -> int:
    config = parse(ChatConfig, argv, command="chat")
    source = resolve_weights(config.model)
    require_text_model(source)
    context = source.config.block_size
    source.tokenizer.require_end("conversations")
    chat_format = find_chat_format(source)
    system = [Message("system", config.system)] if config.system else []
    entries = read_entries(config.input) if config.input else None

    conversation = Conversation(chat_format.encode, context - min(config.max_new_tokens, context // 4), [*system])
    chat_format.encode([*system, Message("user", "")])  # finds what is wrong with the prompt or the template

    from jaxgpt.inference import placement
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    compute, described = placement.select_compute(source.config, config.device, config.dtype)
    console.note(f"{config.model}: {described}")
    if not chat_format.is_chat:
        what = "not trained on conversations, as far as its files say: it gets the template of docs/chat.md"
        console.note(f"{config.model}: {what}, and an answer ends before the next 'User:'")
    with device.memory_errors("use a smaller model"):
        answer = make_answer(config, load(source, **compute), chat_format)
        if entries is None:
            talk(conversation, answer, config.model)
        else:
            answer_entries(entries, conversation, system, answer)
    return 0


def make_answer(config: ChatConfig, model: "Generative", chat_format: ChatFormat) -> Callable[..., Answer]:
    """Compile the model's program; returns the function that answers a conversation's last message."""
    import jax
    import numpy as np

    from jaxgpt.inference.prefix_cache import PrefixCache
    from jaxgpt.inference.sampling import make_sampling_params, prompt_keys

    cache, key, context = PrefixCache(model), jax.random.key(config.seed), model.config.block_size
    sampling = make_sampling_params(config.temperature, config.top_k, config.top_p, stop=chat_format.tokenizer.end)
    with stage("compiling"):  # now, so that a signal ends it at once, and that the first answer is not late
        list(cache.stream([0], 1, sampling, np.zeros(2, np.uint32)))

    def answer(conversation: Conversation, *callbacks: Callable) -> Answer:
        prompt = conversation.prompt()
        most = min(config.max_new_tokens, context + 1 - len(prompt))
        key_of_attempt = prompt_keys(key, [prompt] * (conversation.attempt + 1))[-1]
        ids = cache.stream(prompt, most, sampling, key_of_attempt)
        return write_answer(ids, chat_format.new_text(), most, *callbacks)

    return answer
