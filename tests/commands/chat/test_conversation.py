"""What a model reads of a conversation: all of it, or the system prompt and the newest turns."""

import numpy as np
import pytest

from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.data.chat import Message, encode_until_answer
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.errors import UsageError

TOKENIZER = ByteTokenizer()


def new_conversation(room, *messages):
    return Conversation(lambda given: encode_until_answer(given, TOKENIZER), room, list(messages))


def read_by_model(conversation):
    return bytes(token for token in conversation.prompt() if token < 256).decode()


def test_the_oldest_turns_go_and_the_system_prompt_stays(capsys):
    conversation = new_conversation(90, Message("system", "Brief."))
    for number in range(3):
        conversation.add(Message("user", f"Question {number}"))
        whole = conversation.encode(conversation.messages)
        assert (conversation.prompt() == whole) == (number < 2)
        conversation.add(Message("assistant", f"Answer {number}"))
    assert capsys.readouterr().err == "note: the model's context is full: it no longer reads the first 2 messages\n"
    conversation.messages.pop()
    text = "System: Brief.\n\nUser: Question 1\n\nAssistant: Answer 1\n\nUser: Question 2\n\nAssistant:"
    assert read_by_model(conversation) == text and capsys.readouterr().err == ""  # it is said once
    assert len(conversation.messages) == 6  # nothing is lost
    conversation.set_system("")
    assert read_by_model(conversation) == text.partition("\n\n")[2]


def test_a_long_conversation_is_encoded_a_few_times():
    """Not once for each turn that is left out, which of a pasted book takes hours."""
    counts = []
    conversation = new_conversation(90, *[Message("user", f"Question {number}") for number in range(1000)])
    encode = conversation.encode
    conversation.encode = lambda messages: counts.append(len(messages)) or encode(messages)
    assert read_by_model(conversation).startswith("User: Question 996\n") and len(counts) < 15


@pytest.mark.parametrize("number", range(40))
def test_as_many_turns_are_read_as_there_is_room_for(number):
    """Against all choices of where to begin."""
    draw = np.random.default_rng(number)
    roles = ["system"] * draw.integers(2) + draw.choice(["user", "assistant", "tool"], draw.integers(1, 8)).tolist()
    messages = [Message(role, "x" * draw.integers(1, 30)) for role in [*roles, "user"]]
    room = int(draw.integers(20, 300))
    head = [each for each in messages if each.role == "system"]
    rest = messages[len(head) :]
    starts = [i for i, each in enumerate(rest) if i == 0 or each.role == "user"]
    fitting = [ids for i in starts if len(ids := encode_until_answer([*head, *rest[i:]], TOKENIZER)) <= room]
    conversation = new_conversation(room, *messages)
    if fitting:
        assert conversation.prompt() == fitting[0]
    else:
        with pytest.raises(UsageError, match=rf"^the last message has [\d,]+ tokens .* room for {room} in"):
            conversation.prompt()
        assert conversation.first_read == 0 and conversation.messages == messages
