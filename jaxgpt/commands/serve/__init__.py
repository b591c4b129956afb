"""Serve a model as OpenAI's API, with a chat page: `jaxgpt serve runs/chat`."""

import contextlib
import os
import secrets
from collections.abc import Sequence

from jaxgpt import console
from jaxgpt.commands.flags import parse
from jaxgpt.commands.serve.config import KEY_VARIABLE, ServeConfig, require_key
from jaxgpt.data.chat import Message
from jaxgpt.errors import DataError
from jaxgpt.inference.chat_format import find_chat_format
from jaxgpt.runs.weights import require_text_model, resolve_weights
from jaxgpt.serving.openai_api import Limits


def main(argv: Sequence[str]) -> int:
    config = parse(ServeConfig, argv, command="serve")
    key, is_new = find_key(config)
    source = resolve_weights(config.model)
    require_text_model(source)
    with contextlib.suppress(DataError):  # a request with such messages gets it; completions need no template
        find_chat_format(source).encode([Message("user", "")])

    from jaxgpt.commands.serve.app import Api
    from jaxgpt.serving.server import bind, run_server
    from jaxgpt.serving.web import make_app

    with bind(config.server) as listening:  # before the model is loaded, which may take long
        from jaxgpt.runtime.device import memory_errors
        from jaxgpt.serving.served_model import load_served

        with memory_errors("use a smaller --batch-size, or a smaller model"):
            served = load_served(source, config.device, config.dtype, config.batch_size, config.max_waiting)
        most = config.batch_size + config.max_waiting
        limits = Limits(config.served_name or served.name, most, config.max_new_tokens)
        app = make_app(Api(served, key, limits, config.timeout).routes(), config.server.hosts, served.engine.close)

        def announce(port: int) -> None:
            url, texts = config.server.url(port), console.plural(config.batch_size, "text")
            console.say("serving", f"{limits.model}: {served.described}; {texts} at a time; Ctrl-C ends it")
            console.say("chat", f"{url}/?token={key if is_new else 'KEY'}")
            console.say("api", f"{url}/v1")
            console.say("key", key if is_new else f"that of {'--api-key' if config.api_key else KEY_VARIABLE}")

        return run_server(app, listening, announce)


def find_key(config: ServeConfig) -> tuple[str, bool]:
    """The key that requests must have, and whether it was made just now."""
    given = config.api_key or os.environ.get(KEY_VARIABLE, "")
    if given:
        require_key("--api-key" if config.api_key else KEY_VARIABLE, given)
    return given or secrets.token_urlsafe(24), not given
