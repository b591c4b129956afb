"""From requests to answers, by an engine that writes what the test says."""

import asyncio
import contextlib
import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgpt.commands.serve.answers import Writer
from jaxgpt.data.chat import Message
from jaxgpt.data.chat_template import ChatTemplate
from jaxgpt.data.plain_tokenizers import CharTokenizer
from jaxgpt.inference.chat_format import ChatFormat
from jaxgpt.inference.sampling import prompt_keys
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.openai_api import Limits, TextRequest
from jaxgpt.serving.token_stream import DeadlineError, EngineError, QueueFullError

LIMITS = Limits("tiny", max_texts=8, max_new_tokens=40)
ASKED = TextRequest(("ab",), None, 1, None, 1.0, 1.0, 0, (), 3, False, False, False)
CHAT = [Message("user", "Hi")]
READ = "User: Hi\n\nAssistant:"


def ask(**fields):
    return TextRequest(**(vars(ASKED) | fields))


def ask_chat(messages=CHAT, **fields):
    return ask(prompts=(), messages=tuple(messages), **fields)


def make_writer(served):
    return Writer(served, LIMITS, timeout_s=9)


def write(served, asked):
    """The texts of a request with their reasons and numbers of tokens, and how many parts there were."""

    async def collect():
        writer = make_writer(served)
        async with contextlib.aclosing(writer.write(writer.plan(asked), asked.messages is not None)) as parts:
            return [part async for part in parts]

    parts = asyncio.run(collect())
    texts = {}
    for part in parts:
        text, _, num_new = texts.get(part.index, ("", None, 0))
        texts[part.index] = text + part.text, part.reason, num_new + part.num_new
    return [texts[index] for index in range(len(texts))], len(parts)


def test_what_the_engine_is_asked_for(served):
    asked = ask(prompts=("ab", (99,), ""), n=2, temperature=0.5, top_k=4, top_p=0.9)
    plans = make_writer(served).plan(asked)
    prompts = [(97, 98), (97, 98), (99,), (99,), (256,), (256,)]
    assert [plan.generation.prompt for plan in plans] == prompts
    keys = prompt_keys(jax.random.key(3), prompts)
    assert all((plan.generation.key == key).all() for plan, key in zip(plans, keys, strict=True))
    assert len(np.unique(keys, axis=0)) == 6  # each text is another one
    first = plans[0].generation
    assert (first.temperature, first.top_k, first.top_p, first.stop) == (0.5, 4, 0.9, 256)
    assert (first.max_new_tokens, first.deadline_s) == (16, 9)
    (chat,) = make_writer(served).plan(ask_chat())
    assert bytes(chat.generation.prompt).decode() == READ and chat.generation.max_new_tokens == 40
    without_seed = [make_writer(served).plan(ask(seed=None))[0].generation.key.tolist() for _ in range(3)]
    assert without_seed[0] != without_seed[1] != without_seed[2]


def test_a_text_has_room_for_as_many_tokens_as_are_left(served):
    for num_prompt, max_tokens, expected in ((60, None, 4), (60, 4, 4), (10, 40, 40), (63, None, 1)):
        (plan,) = make_writer(served).plan(ask(prompts=("x" * num_prompt,), max_tokens=max_tokens))
        assert plan.generation.max_new_tokens == expected
    for prompt, message in (
        ("x" * 61, "65 tokens, 61 of the prompt and 4 new ones, do not fit into the model's context of 64; shorten"),
        ("x" * 64, "68 tokens, 64 of the prompt and 4 new ones, do not fit into the model's context of 64; shorten"),
        ("x" * 10**6, "a prompt of 1,000,000 bytes does not fit into the model's context of 64; shorten the prompt"),
    ):
        with pytest.raises(HttpError) as error:
            make_writer(served).plan(ask(prompts=(prompt,), max_tokens=4))
        assert str(error.value).startswith(message) and error.value.code == "context_length_exceeded"
        assert error.value.param == "prompt"
    with pytest.raises(HttpError, match="do not fit") as error:
        make_writer(served).plan(ask_chat([Message("user", "x" * 64)]))
    assert error.value.param == "messages"
    with pytest.raises(HttpError, match=r"'prompt' has the token id 257, and the vocabulary has 257 tokens"):
        make_writer(served).plan(ask(prompts=((1, 257),)))


def test_a_template_of_the_models_own_is_used_and_may_refuse(served):
    pytest.importorskip("jinja2", reason="needs jinja2: pip install -r requirements-chat.txt")
    source = "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}<{{ messages[0].content }}>"
    chat_format = ChatFormat(served.tokenizer, ChatTemplate(Path("/secret/folder/t.jinja"), source, {}))
    served = dataclasses.replace(served, chat_format=chat_format)
    (plan,) = make_writer(served).plan(ask_chat())
    assert bytes(plan.generation.prompt) == b"<Hi>"
    with pytest.raises(HttpError) as error:
        make_writer(served).plan(ask_chat(CHAT * 2))
    assert str(error.value) == "the chat template refuses the conversation (TemplateError: one only)"


def test_letters_that_the_vocabulary_lacks_are_refused(served):
    served = dataclasses.replace(served, tokenizer=CharTokenizer("abc"))
    with pytest.raises(HttpError) as error:
        make_writer(served).plan(ask(prompts=("abd",)))
    assert error.value.param == "prompt" and "\n" not in str(error.value)
    with pytest.raises(HttpError, match="the prompt is empty, and the tokenizer has no token that begins a document"):
        make_writer(served).plan(ask(prompts=("",)))


def test_parts_are_the_texts(served):
    heart = "\u2764".encode()
    served.engine.answers = [[b"a", heart[:2], heart[2:], b"b", "stop"], [b"cd", heart[:1], "length"]]
    assert write(served, ask(n=2)) == ([("a\u2764b", "stop", 5), ("cd", "length", 3)], 6)
    assert all(stream.is_closed for stream in served.engine.streams)


def test_a_stop_ends_a_text_and_frees_its_place(served):
    served.engine.answers = [[b"ab\nE", b"ND: x", asyncio.Event()]]  # which would never end
    assert write(served, ask(stops=("\nEND", "zz")))[0] == [("ab", "stop", 9)]
    assert served.engine.streams[0].is_closed
    served.engine.answers = [[b"ab\nE", "length"]]  # the beginning of a stop is text, if nothing follows
    assert write(served, ask(stops=("\nEND",)))[0] == [("ab\nE", "length", 4)]


def test_an_echo_begins_with_the_prompt(served):
    served.engine.answers = [[b"c", "stop"], [b"d", "stop"], ["stop"]]
    texts, _ = write(served, ask(prompts=("ab", (99, 100), ""), echo=True))
    assert [text for text, _, _ in texts] == ["abc", "cdd", ""]


@pytest.mark.parametrize(
    "pieces, content",
    [
        ([b" Hi", b" there"], "Hi there"),
        ([b" ", b"Hi"], "Hi"),
        ([b" ", b"\nHi"], " \nHi"),  # which the template writes as it is
        ([b" "], " "),
        ([b"Hi"], "Hi"),
        ([], ""),
    ],
)
def test_an_answer_is_its_content_in_parts_too(served, pieces, content):
    served.engine.answers = [[*pieces, "stop"]]
    ((text, reason, _),), _ = write(served, ask_chat())
    assert (text, reason) == (content, "stop")


@pytest.mark.parametrize(
    "answers, status, code",
    [
        ([[b"a", "stop"], QueueFullError("full")], 429, "rate_limit_exceeded"),
        ([[b"a", asyncio.Event()], [DeadlineError("late")]], 503, "timeout"),
        ([[b"a", asyncio.Event()], [b"a", EngineError("out of memory")]], 500, "engine_error"),
    ],
)
def test_a_text_that_fails_frees_the_places_of_all(served, answers, status, code):
    served.engine.answers = answers
    with pytest.raises(HttpError) as error:
        write(served, ask(n=2))
    assert (error.value.status, error.value.code) == (status, code)
    assert all(stream.is_closed for stream in served.engine.streams)


def test_who_leaves_frees_the_places(served):
    served.engine.answers = [[b"a", asyncio.Event()], [b"b", asyncio.Event()]]

    async def leave():
        writer = make_writer(served)
        async with contextlib.aclosing(writer.write(writer.plan(ask(n=2)), False)) as parts:
            async for _ in parts:
                break
        assert all(stream.is_closed for stream in served.engine.streams)
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())


def test_times_are_measured(served):
    served.engine.answers = [[b"a", b"b", "stop"], ["stop"]]

    async def collect():
        writer = make_writer(served)
        _ = [part async for part in writer.write(writer.plan(ask(n=2)), False)]
        return writer

    writer = asyncio.run(collect())
    counts = [metric.metric().samples[-1] for metric in (writer.first_text, writer.whole_text)]
    assert counts == [("_count", (), 1), ("_count", (), 2)]
