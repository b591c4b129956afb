"""The form of a conversation: which template a model has, and what ends its answers."""

import json
import types

import pytest

from jaxgpt.data.chat import CHAT_TEMPLATE, Message
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.chat_format import NEXT_TURN, ChatFormat, find_chat_format

BYTES = ByteTokenizer()
TALK = [Message("system", "Be brief."), Message("user", "Hi!")]
TEXT = "System: Be brief.\n\nUser: Hi!\n\nAssistant:"


def located(folder=None, is_run=False, is_chat=False):
    return types.SimpleNamespace(folder=folder, is_run=is_run, is_chat=is_chat, adapted=None, tokenizer=BYTES)


def test_a_run_has_our_template_and_what_its_data_says():
    for is_chat in (True, False):
        chat_format = find_chat_format(located(is_run=True, is_chat=is_chat))
        assert bytes(chat_format.encode(TALK)).decode() == TEXT and chat_format.separator == " "
        assert chat_format.stops == (() if is_chat else (NEXT_TURN,))


def test_a_folder_has_its_own_template(tmp_path):
    pytest.importorskip("jinja2")
    source = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}<assistant>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": source}))
    chat_format = find_chat_format(located(tmp_path))
    assert bytes(chat_format.encode(TALK)).decode() == "<system>Be brief.<user>Hi!<assistant>"
    assert chat_format.is_chat and chat_format.separator == "" and chat_format.stops == ()


def test_an_exported_run_has_ours_without_jinja(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    assert find_chat_format(located(tmp_path)) == ChatFormat(BYTES)


def test_an_answer_ends_at_the_stops_of_its_reader_too():
    text = ChatFormat(BYTES, is_chat=False).new_text(["END"])
    shown = text.add(list(b" Yes. EN")) + text.add(list(b"D and more"))
    assert shown == " Yes. " and text.stopped and text.content == "Yes. "
