"""Prompts under names that stay."""

from pathlib import Path

import pytest

from jaxgpt.commands.review.items import encode_items, load_items
from jaxgpt.data.chat_template import ChatTemplate
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.errors import DataError
from jaxgpt.inference.chat_format import ChatFormat

TOKENIZER = ByteTokenizer()
FORMAT = ChatFormat(TOKENIZER)


def test_items_have_the_prompts_and_topics_of_the_file(write):
    items = load_items(
        write("a.jsonl", [{"prompt": "a", "topic": " t "}, {"prompt": "b", "topic": 3}, {"Prompt": "c"}])
    )
    assert [(each.prompt, each.topic, each.content) for each in items] == [
        ("a", "t", {"prompt": "a"}), ("b", "", {"prompt": "b"}), ("c", "", {"prompt": "c"}),
    ]  # fmt: skip
    sharegpt = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}, {"from": "human", "value": "s"}]
    (item,) = load_items(write("b.jsonl", [{"conversations": sharegpt, "system": "be brief"}]))
    roles = [("system", "be brief"), ("user", "q"), ("assistant", "r"), ("user", "s")]
    assert item.content == {"messages": [{"role": role, "content": content} for role, content in roles]}
    assert load_items(write("c.csv", "prompt,topic\nx,y\n"))[0].topic == "y"


def test_a_name_depends_on_the_text_alone_and_equal_texts_have_different_ones(write):
    texts = ["a", "b", "a", "\u65e5", "a"]
    items = load_items(write("a.jsonl", [{"prompt": text, "topic": text} for text in texts]))
    ids = [item.id for item in items]
    assert len({*ids}) == 5 and ids[2] == f"{ids[0]}-2" and ids[4] == f"{ids[0]}-3"
    more = [{"prompt": text} for text in ["new", *texts]]
    assert [item.id for item in load_items(write("b.jsonl", more))][1:] == ids
    chats = [{"messages": [{"role": role, "content": "a"}]} for role in ("user", "system")]
    assert len({item.id for item in load_items(write("c.jsonl", chats))} | {*ids}) == 7


def test_a_prompt_is_read_as_training_reads_it(write):
    (item,) = load_items(write("a.jsonl", [{"prompt": "ab"}]))
    assert encode_items([item], "m", FORMAT, 3) == {item.id: tuple(TOKENIZER.encode_prompt("ab"))}
    (item,) = load_items(write("b.jsonl", [{"messages": [{"role": "user", "content": "Hi"}]}]))
    tokens = encode_items([item], "m", FORMAT, 99)[item.id]
    assert tokens == tuple(TOKENIZER.encode_prompt("User: Hi\n\nAssistant:"))


def test_what_can_not_be_answered_is_refused_with_its_line(write):
    items = load_items(write("a.jsonl", [{"prompt": "a"}, {"prompt": "abc"}]))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: the prompt has 3 tokens, and m takes 1 to 2; correct"):
        encode_items(items, "m", FORMAT, 3)
    long = write("b.jsonl", [{"prompt": "a", "topic": "x" * 101}])
    with pytest.raises(DataError, match=r"b\.jsonl, line 1: 'topic' has 101 characters, and at most 100; shorten it"):
        load_items(long)
    half = write("d.jsonl", r'{"prompt": "a", "topic": "\ud800"}' + "\n")
    with pytest.raises(DataError, match=r"d\.jsonl, line 1: 'topic' has half of a surrogate pair"):
        load_items(half)
    answered = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(DataError, match=r"line 1: ends in an answer of the assistant"):
        load_items(write("c.jsonl", [{"messages": answered}]))


def test_a_template_that_refuses_a_conversation_names_its_line(write):
    pytest.importorskip("jinja2")
    refusing = ChatTemplate(Path("x.jinja"), "{{ raise_exception('only one message') }}", {})
    (item,) = load_items(write("a.jsonl", [{"messages": [{"role": "user", "content": "Hi"}]}]))
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: .*only one message"):
        encode_items([item], "m", ChatFormat(TOKENIZER, refusing), 99)
