"""A file of messages and conversations: what is answered, printed, and refused."""

import json

import pytest

from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.commands.chat.script import Entry, answer_entries, read_entries
from jaxgpt.data.chat import Message
from jaxgpt.errors import DataError
from tests.commands.chat.test_terminal import answer_by_rule, new_conversation

SYSTEM = [Message("system", "Be brief.")]


def test_a_line_is_the_next_message_or_another_conversation(write, capsys):
    own = [{"role": "developer", "content": "No."}, {"from": "human", "value": "na\u00efve\x1b"}]
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "cd"}]
    lines = [{"content": "ab"}, {"content": "cd", "id": 7}, {"messages": own}, {"messages": talk}, {"content": "ef"}]
    conversation = new_conversation()
    conversation.reset(SYSTEM)
    answer_entries(read_entries(write("a.jsonl", lines)), conversation, SYSTEM, answer_by_rule)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    contents = ["2.0 ba", "4.0 dc", "2.0 \x1bev\u00efan", "4.0 dc", "6.0 fe"]  # messages so far, and the last backwards
    assert rows == [{"role": "assistant", "content": each, "finish_reason": "stop"} for each in contents]
    assert conversation.messages[:3] == [*SYSTEM, Message("user", "a"), Message("assistant", "b")]


@pytest.mark.parametrize(
    "line, message",
    [
        ({"text": "x"}, "line 2: needs a 'content', the next message, or 'messages', another conversation"),
        ({"content": "x", "messages": []}, "line 2: needs a 'content', the next message, or 'messages'"),
        ({"content": " "}, "line 2: 'content' is empty"),
        ({"content": 3}, "line 2: 'content' is of type int, and must be a text"),
        ({"messages": []}, "line 2: 'messages' must be a list of"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "line 2, message 1: its 'role' must be system"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "line 2: ends in a message of the assistant; end it"),
        ({"messages": [{"role": "system", "content": "x"}]}, "line 2: ends in a message of the system; end it in one"),
        ({"content": "\ud800"}, "line 2: a lone surrogate"),
        ([], "line 2: not a JSON object"),
    ],
)
def test_a_wrong_line_is_named(line, message, write):
    path = write("a.jsonl", [{"content": "x"}, line])
    with pytest.raises(DataError, match=f"^{path}, {message}"):
        read_entries(path)


def test_a_message_without_room_is_named_by_its_line():
    conversation = Conversation(lambda messages: [0] * len(messages[-1].content), 3)
    entries = [Entry("a.jsonl, line 4", [Message("user", "four")], False)]
    with pytest.raises(DataError, match=r"^a\.jsonl, line 4: the last message has 4 tokens with .* room for 3 in"):
        answer_entries(entries, conversation, [], answer_by_rule)
