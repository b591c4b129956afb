"""Answers, read by the types of OpenAI's client, which refuse a field that is missing or of another type."""

import pytest

from jaxgpt.serving.openai_answers import Envelope, Usage, describe_model

openai = pytest.importorskip("openai", reason="needs openai")
from openai.types import Completion, Model  # noqa: E402
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402


def test_a_whole_answer():
    texts, usage = [("one", "stop"), ("two", "length")], Usage(3, 4)
    chat = ChatCompletion.model_validate(Envelope(True, "chatcmpl-1", 9, "m", "f").whole(texts, usage), strict=True)
    assert [(each.index, each.message.content, each.finish_reason) for each in chat.choices] == [
        (0, "one", "stop"),
        (1, "two", "length"),
    ]
    assert chat.usage.total_tokens == 7 and chat.object == "chat.completion" and chat.system_fingerprint == "f"
    plain = Completion.model_validate(Envelope(False, "cmpl-1", 9, "m", "f").whole(texts, usage), strict=True)
    assert [(each.index, each.text, each.finish_reason) for each in plain.choices] == [
        (0, "one", "stop"),
        (1, "two", "length"),
    ]
    assert (plain.object, plain.created, plain.usage.completion_tokens) == ("text_completion", 9, 4)


@pytest.mark.parametrize("include_usage", [False, True])
def test_chunks(include_usage):
    envelope = Envelope(True, "chatcmpl-1", 9, "m", "f", include_usage)
    parts = [envelope.chunk(0, "", is_first=True), envelope.chunk(0, "Hi"), envelope.chunk(0, "", "stop")]
    assert all(("usage" in each) == include_usage for each in parts)
    chunks = [
        ChatCompletionChunk.model_validate(each, strict=True) for each in [*parts, envelope.usage_chunk(Usage(1, 2))]
    ]
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert chunks[1].choices[0].delta.content == "Hi" and chunks[1].choices[0].finish_reason is None
    assert chunks[2].choices[0].delta.content is None and chunks[2].choices[0].finish_reason == "stop"
    assert chunks[3].choices == [] and (chunks[3].usage is not None) == include_usage
    plain = Envelope(False, "cmpl-1", 9, "m", "f", include_usage).chunk(1, "x")
    assert (
        plain["choices"][0] | {"finish_reason": "stop"}
        == Completion.model_validate(
            plain | {"choices": [plain["choices"][0] | {"finish_reason": "stop"}]}, strict=True
        )
        .choices[0]
        .model_dump()
    )


def test_a_model():
    read = Model.model_validate(describe_model("m", 9, 64, 32, True), strict=True)
    assert (read.id, read.created, read.object, read.owned_by) == ("m", 9, "model", "jaxgpt")
