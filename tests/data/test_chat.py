"""Conversations as text, and the template by which `transformers` makes the same of them."""

import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.chat import CHAT_TEMPLATE, encode_until_answer, parse_answered, parse_conversation, parse_messages
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.tokenized import encode_segments
from jaxgpt.errors import DataError
from tests.support import golden

STRIPPED = "48053a4d4e07436fa8a3ba4743c81fcb8dac079d1e951e4ae574235e3bfb2c76"
CODE = "    def f(x):\n        return x\n\n    # done\n"
CONVERSATIONS = [  # pairs of a role and a content
    "user Hi!|assistant Hello.",
    "system Be brief.|user Hi!|assistant Hello.|user Bye|assistant Bye!",
    f"user Indent it|assistant {CODE}",
    f"user {CODE}|assistant {CODE.rstrip()}|user Again|assistant \tx = 1\n",
    "user Hi!  \n\n|assistant Hello.  ",
    "user  Hi!|assistant  Hello.|user \nHi|assistant \n\nHello",
    "system |user Hi!|assistant Hello.",
    "system |assistant Hello.",
    "developer  |user Hi!|assistant Hello.",
    "developer |user Hi!|system |assistant Hello.|tool 42|developer More!|assistant Again.",
    "user |assistant |user |assistant Yes?",
    "user \U0001f642\U0001f680|assistant \U0001f680 na\u00efve \u65e5\u672c\u8a9e",
    "user \u2003x\u00a0|assistant \u00a0x\u2028y",
    "user e\u0301\u200b|assistant \u200d\U0001f469\u200d\U0001f4bb",
    "user 12345 6789.01|assistant  $1,000|user don't I'LL|assistant 're",
    "assistant Hello.|assistant I am here.|user Ah",
    "user User: a\n\nAssistant: b|assistant System:",
    "user {{ x }} {% if %}|assistant {# y #} <b>&amp;</b> \\n",
    "user \r\nx\r\n|assistant \r\ny\r\n",
    "user a" + "|assistant b|user c" * 20 + "|assistant  d",
]


def messages(conversation):
    turns = (turn.split(" ", 1) for turn in conversation.split("|"))
    return [{"role": role, "content": content} for role, content in turns]


def in_parts(turns):
    return [
        turn | {"content": [{"type": "text", "text": text} for text in (turn["content"][:3], turn["content"][3:])]}
        for turn in turns
    ]


def test_the_text_of_a_conversation_and_what_of_it_is_learned():
    record = {"messages": messages(f"system Be brief.|user Hi! |assistant {CODE}|user Bye|assistant Bye!|user x")}
    assert parse_conversation("", record) == [
        ("System: Be brief.\n\nUser: Hi! \n\nAssistant:", False),
        (CODE, True),
        ("\n\nUser: Bye\n\nAssistant:", False),
        (" Bye!", True),
        ("\n\nUser: x", False),
    ]


def test_messages_of_any_common_form_are_the_same_text():
    turns = messages("developer Be brief.|user Hi!|assistant Hello.|tool 42|user |assistant Bye!")
    segments = parse_conversation("", {"messages": turns})
    assert "".join(text for text, _ in segments) == (
        "System: Be brief.\n\nUser: Hi!\n\nAssistant: Hello.\n\nTool: 42\n\nUser:\n\nAssistant: Bye!"
    )
    roles = {"user": "human", "assistant": "gpt", "developer": "system"}
    share_gpt = [{"from": roles.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in turns]
    for given in (in_parts(turns), share_gpt):
        assert parse_conversation("", {"conversations": given}, "conversations") == segments


def test_an_answer_of_weight_0_is_read_and_not_learned(write):
    """As OpenAI's fine-tuning has it: its tokens stay the same, <|endoftext|> included, and only the targets differ."""
    turns = messages("user Hi!|assistant Hello.|user Bye|assistant Bye!")
    weights = [[turns[0], turns[1] | {"weight": weight}, *turns[2:]] for weight in (1, None, 0)]
    loaded = [
        examples.load(write(f"{i}.jsonl", [{"messages": each}]), B=1, T=32)[0].table
        for i, each in enumerate([turns, *weights])
    ]
    tokens, *others = (table["tokens"].tolist() for table in loaded)
    assert others == [tokens] * 3
    plain, one, null, zero = ([i for i in table["targets"][0].tolist() if i >= 0] for table in loaded)
    answers = [[*encoding().encode_ordinary(text), encoding().eot_token] for text in (" Hello.", " Bye!")]
    assert plain == one == null == answers[0] + answers[1] and zero == answers[1]


@pytest.mark.parametrize("field, role, content", [("conversations", "from", "value"), ("messages", "role", "content")])
def test_a_system_field_is_the_first_message(field, role, content):
    """As ShareGPT has it; what is no text is none, and one that the messages have is not learned twice."""
    turns = [{role: "user", content: "Hi!"}, {role: "assistant", content: "Hello."}]
    first = {role: "system", content: "Be brief."}
    assert parse_conversation("", {field: turns, "system": "Be brief."}, field) == parse_conversation(
        "", {field: [first, *turns]}, field
    )
    for nothing in (None, "", 3, {"id": 7}):
        record = {field: turns, "system": nothing}
        assert parse_conversation("", record, field) == parse_conversation("", {field: turns}, field)
    for given in ([first, *turns], [first | {role: "developer"}, *turns]):
        both = {field: given, "system": "Be brief."}
        assert parse_conversation("", both, field) == parse_conversation("", {field: [first, *turns]}, field)


@pytest.mark.parametrize("content", ["Hello.", " Hello.", "\nHello.", CODE, "", " "])
def test_an_answer_is_the_same_text_as_a_message_again(content):
    """A model writes what it learned, with the blank, and that may be a message of the next conversation."""
    (_, (written, _), _) = parse_conversation("", {"messages": [{"role": "assistant", "content": content}]})
    (_, (again, _), _) = parse_conversation("", {"messages": [{"role": "assistant", "content": written}]})
    assert again == written and written.removeprefix(" ") in (content, content.removeprefix(" "))


@pytest.mark.parametrize("tokenizer", [GPT2_TOKENIZER, ByteTokenizer()], ids=lambda each: each.name)
def test_before_each_answer_a_model_reads_what_training_has_there(tokenizer, write):
    for number, conversation in enumerate(CONVERSATIONS):
        record = {"messages": messages(conversation)}
        table = examples.load(write(f"{number}.jsonl", [record]), B=1, T=512, tokenizer=tokenizer)[0].table
        tokens, learned = table["tokens"][0].tolist(), table["targets"][0] >= 0
        starts = [i + 1 for i in np.flatnonzero(learned) if not learned[i - 1]]  # targets are one to the left
        turns = parse_messages("", record)
        prompts = [
            encode_until_answer(turns[:i], tokenizer) for i, turn in enumerate(turns) if turn.role == "assistant"
        ]
        assert prompts == [tokens[:start] for start in starts]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """What `transformers` makes of the files of a chat run."""
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    pytest.importorskip("jinja2")
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in GPT2_TOKENIZER.hugging_face_files(1024, chat_template=CHAT_TEMPLATE).items():
        (folder / name).write_text(content, encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=range(20))
def test_transformers_has_the_same_ids_and_mask(tokenizer, conversation):
    turns = messages(conversation)
    segments = encode_segments(parse_conversation("", {"messages": turns}))
    ids, learned = (list(each) for each in zip(*((i, of) for part, of in segments for i in part), strict=True))
    for given in (turns, in_parts(turns)):
        theirs = tokenizer.apply_chat_template(given, return_dict=True, return_assistant_tokens_mask=True)
        assert theirs["input_ids"] == ids and theirs["assistant_masks"] == learned
    for number, turn in enumerate(turns):  # what the model reads before it answers
        if number and turn["role"] == "assistant":
            prompt = tokenizer.apply_chat_template(turns[:number], add_generation_prompt=True, return_dict=True)
            n = len(prompt["input_ids"])
            assert prompt["input_ids"] == ids[:n] and learned[n - 1 : n + 1] == [False, True]


def test_a_conversation_without_outer_blanks_has_the_tokens_that_it_always_had(write):
    """When contents were stripped. The longer one comes first, as in the row that both are packed into."""
    path = write("a.jsonl", [{"messages": messages(conversation)} for conversation in CONVERSATIONS[1::-1]])
    assert examples.load(path, B=2, T=64)[0].fingerprint == STRIPPED


@pytest.mark.parametrize(
    "messages, message",
    [
        ([], "'messages' must be a list of"),
        (
            [{"role": "robot", "content": "x"}],
            "line 1, message 1: its 'role' must be system, developer, user, human, a",
        ),
        ([{"role": ["user"], "content": "x"}], "line 1, message 1: its 'role' must be system, developer, user, human"),
        ([{"from": "bot", "value": "x"}], "line 1, message 1: its 'from' must be system, developer, user, human, a"),
        (["Hi!"], "line 1, message 1: must be an object"),
        ([{"from": "gpt", "content": "x"}], "line 1, message 1: no field 'value'"),
        ([{"role": "user", "content": None}], "line 1, message 1: 'content' is of type NoneType, and must be a text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "message 1: 'content' has a part without a 'text'"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "message 1: 'tool_calls' are not read; write"),
        ([{"role": "user", "content": 3}], "line 1, message 1: 'content' is of type int, and must be a text"),
        ([{"role": "assistant", "content": "x", "weight": 0.5}], "line 1, message 1: 'weight' must be 0 or 1"),
        ([{"role": "assistant", "content": "x", "weight": 0}], "line 1: every message of the assistant has the weight"),
        ([{"role": "user", "content": "x"}], "line 1: no message of the assistant, and only those are learned"),
    ],
)
def test_a_bad_conversation_is_named_by_its_line(write, messages, message):
    with pytest.raises(DataError, match=message):
        examples.load(write("a.jsonl", [{"messages": messages}]), 2, 8)


def test_of_a_conversation_with_a_completion_only_that_is_learned():
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    record = {"messages": messages, "completion": "d"}
    whole = parse_conversation("", {"messages": [*messages, {"role": "assistant", "content": "d"}]})
    segments = parse_answered("", record)
    assert [text for text, _ in segments] == [text for text, _ in whole[:-1]]
    assert [is_learned for _, is_learned in segments] == [False, None, False, True]
    for wrong in ({"messages": []}, {"messages": "x"}, {"completion": 3}, {"completion": None}):
        with pytest.raises(DataError, match="must be a"):
            parse_answered("a.jsonl, line 1", record | wrong)
    with pytest.raises(DataError, match="line 1: 'messages' end in an answer, and 'completion' is another; remove one"):
        parse_answered("a.jsonl, line 1", record | {"messages": messages[:2]})
