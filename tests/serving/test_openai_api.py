"""Requests of OpenAI's API: what is read, what is refused, and that nothing else happens to a JSON object."""

import inspect
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxgpt.data.chat import Message
from jaxgpt.json_file import parse_json
from jaxgpt.serving import openai_api
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.openai_api import Limits, TextRequest, parse_chat, parse_completion

LIMITS = Limits("tiny", max_texts=8, max_new_tokens=100)
HI = [{"role": "user", "content": "Hi"}]
TEXT, CHAT = {"model": "tiny", "prompt": "a"}, {"model": "tiny", "messages": HI}
DEFAULTS = TextRequest(("a",), None, 1, None, 1.0, 1.0, 0, (), None, False, False, False)


def change(request, **fields):
    return TextRequest(**(vars(request) | fields))


@pytest.mark.parametrize(
    "body, fields",
    [
        ({}, {}),
        ({"prompt": None}, {"prompts": ("",)}),
        ({"prompt": ["a", "b"], "n": 3}, {"prompts": ("a", "b"), "n": 3}),
        ({"prompt": [1, 2]}, {"prompts": ((1, 2),)}),
        ({"prompt": [[1, 2], [3]]}, {"prompts": ((1, 2), (3,))}),
        ({"max_tokens": 100, "temperature": 0, "top_p": 0.5, "top_k": 5}, {"max_tokens": 100, "temperature": 0.0,
                                                                           "top_p": 0.5, "top_k": 5}),
        ({"top_k": -1, "top_p": 0, "seed": -1}, {"top_p": 1e-9, "seed": 2**31 - 1}),
        ({"seed": 2**31 + 7, "stop": "x"}, {"seed": 7, "stops": ("x",)}),
        ({"seed": float(2**63 - 1)}, {"seed": 0}),
        ({"seed": -float(2**62 + 2**11)}, {"seed": 2**31 - 1}),
        ({"stop": ["x", "y"], "echo": True}, {"stops": ("x", "y"), "echo": True}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True, "include_usage": True}),
        ({"user": "me", "logit_bias": {}, "best_of": 2, "n": 2, "suffix": "", "logprobs": None}, {"n": 2}),
    ],
)  # fmt: skip
def test_a_completion_is_read(body, fields):
    assert parse_completion(TEXT | body, LIMITS) == change(DEFAULTS, **fields)


def test_a_chat_is_read():
    expected = change(DEFAULTS, prompts=(), messages=(Message("user", "Hi"),))
    assert parse_chat(CHAT, LIMITS) == expected
    assert parse_chat(CHAT | {"max_completion_tokens": 7}, LIMITS) == change(expected, max_tokens=7)
    assert parse_chat(CHAT | {"max_tokens": 7}, LIMITS) == change(expected, max_tokens=7)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [{"role": "developer", "content": parts}, *HI, {"role": "assistant", "content": "", "refusal": None}]
    read = parse_chat(CHAT | {"messages": turns}, LIMITS).messages
    assert read == (Message("system", "ab"), Message("user", "Hi"), Message("assistant", ""))


@pytest.mark.parametrize(
    "body, message",
    [
        ({"model": None}, "'model' must be the model's name, here 'tiny'"),
        ({"model": "gpt-9"}, "there is no model \"gpt-9\" here, only 'tiny'"),
        ({"prompt": []}, "'prompt' must be a text, a list of token ids, or a list of either"),
        ({"prompt": [[]]}, "each 'prompt' must be a text, or a list of one or more token ids from 0"),
        ({"prompt": [1, "a"]}, "each 'prompt' must be"),
        ({"prompt": [1, -1]}, "each 'prompt' must be"),
        ({"prompt": [True]}, "each 'prompt' must be"),
        ({"prompt": "\ud800"}, "'prompt' has half of a surrogate pair"),
        ({"max_tokens": 0}, "'max_tokens' must be an integer from 1 to 100, and is 0"),
        ({"max_tokens": 101}, "'max_tokens' must be an integer from 1 to 100, and is 101"),
        ({"max_tokens": 5.0}, "'max_tokens' must be an integer from 1 to 100, and is 5.0"),
        ({"n": True}, "'n' must be an integer from 1 to 8, and is true"),
        ({"n": 5, "prompt": ["a", "b"]}, "2 prompts with 'n' 5 are 10 texts, and one request may ask for 8"),
        ({"temperature": 2.1}, "'temperature' must be a number from 0 to 2, and is 2.1"),
        ({"temperature": float("nan")}, "'temperature' must be a number from 0 to 2, and is NaN"),
        ({"temperature": "1"}, "'temperature' must be a number from 0 to 2, and is \"1\""),
        ({"top_p": 1.1}, "'top_p' must be a number from 0 to 1, and is 1.1"),
        ({"stop": ["a"] * 5}, "'stop' must be 1 to 4 texts of 1 to 200 characters"),
        ({"stop": ""}, "'stop' must be 1 to 4 texts"),
        ({"stream": "yes"}, "'stream' must be true or false, and is \"yes\""),
        ({"stream_options": {}}, "'stream_options' needs 'stream': true"),
        ({"stream": True, "stream_options": {"x": 1}}, "'stream_options' must be an object with 'include_usage'"),
        ({"logprobs": 0}, "'logprobs' is not supported; leave it out, or send false"),
        ({"logit_bias": {"1": 5}}, "'logit_bias' is not supported; leave it out, or send {}"),
        ({"presence_penalty": 0.1}, "'presence_penalty' is not supported; leave it out, or send 0"),
        ({"best_of": 2}, "'best_of' is not supported; leave it out, or send 1"),
        ({"tools": [{}]}, "'tools' is not supported; leave it out, or send []"),
        ({"response_format": {"type": "json_object"}}, "'response_format' is not supported"),
        ({"temprature": 1}, 'there is no parameter "temprature"; leave it out'),
        ({"messages": HI}, 'there is no parameter "messages"; leave it out'),
    ],
)
def test_what_is_wrong_is_named(body, message):
    with pytest.raises(HttpError) as error:
        parse_completion(TEXT | body, LIMITS)
    assert str(error.value).startswith(message) and error.value.param in body
    assert error.value.status == (404 if "no model" in message else 400)


@pytest.mark.parametrize(
    "body, message",
    [
        ({"messages": None}, "'messages' is missing: give a list of {'role', 'content'}"),
        ({"messages": "Hi"}, "'messages' must be a list of"),
        ({"messages": []}, "'messages' must be a list of"),
        ({"messages": [{"role": "x", "content": "Hi"}]}, "messages, message 1: its 'role' must be system, developer"),
        ({"messages": [*HI, {"role": "user", "content": 3}]}, "messages, message 2: 'content' is of type int"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages, message 1: 'content' has a"),
        ({"messages": [{"role": "user", "content": [{"text": "\udc00"}]}]}, "'messages' has half of a surrogate pair"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "give one of 'max_completion_tokens' and 'max_tokens'"),
        ({"prompt": "a"}, 'there is no parameter "prompt"'),
        ({"echo": True}, 'there is no parameter "echo"'),
    ],
)
def test_what_is_wrong_in_a_chat_is_named(body, message):
    with pytest.raises(HttpError) as error:
        parse_chat(CHAT | body, LIMITS)
    assert str(error.value).startswith(message) and error.value.param in body


def test_each_parameter_of_openais_client_is_known():
    """So that a new one of theirs is refused as unsupported, or supported, and not called unknown."""
    openai = pytest.importorskip("openai", reason="needs openai")
    known = openai_api.IGNORED | openai_api.UNSUPPORTED.keys()
    its_own = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
    for client, ours in (
        (openai.resources.chat.Completions, openai_api.OF_CHAT),
        (openai.resources.Completions, openai_api.OF_COMPLETIONS),
    ):
        theirs = inspect.signature(client.create).parameters.keys() - its_own
        assert theirs <= known | ours and ours - theirs == {"top_k"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("tiny") | st.just("user"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "include_usage"]), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = sorted(openai_api.OF_CHAT | openai_api.OF_COMPLETIONS | openai_api.UNSUPPORTED.keys() | {"x"})


@hypothesis.settings(max_examples=500, deadline=None)
@hypothesis.given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5), st.sampled_from([TEXT, CHAT, {}]))
def test_any_object_is_a_request_or_refused_in_a_line(body, right):
    body = parse_json(json.dumps(right | body).encode())
    for parse in (parse_completion, parse_chat):
        try:
            read = parse(body, LIMITS)
        except HttpError as error:
            assert "\n" not in str(error) and len(str(error)) < 200 and 400 <= error.status < 500
        else:
            assert 1 <= read.num_texts <= 8 and 0 <= read.temperature <= 2 and 0 < read.top_p <= 1
            assert (read.max_tokens or 1) <= 100 and json.dumps(read.stops).isascii()
