"""Prompts of a file, against the texts of conversations that end in an answer."""

from pathlib import Path

import pytest

from jaxgpt.data.chat import parse_conversation
from jaxgpt.data.config import FieldNames
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.prompts import load_prompts
from jaxgpt.data.tokenized import encode_segments
from jaxgpt.errors import DataError, UsageError

HI, HELLO, BYE = (
    {"role": role, "content": content} for role, content in (("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
)


def test_records_keep_their_fields_and_lines(write):
    path = write("p.jsonl", '{"prompt": "1 + 1 =", "answer": 2}\n\n{"Prompt": "2 + 2 =", "answer": 4}\n')
    prompts = load_prompts(path)
    assert (prompts.prompts, prompts.lines, prompts.is_chat) == (("1 + 1 =", "2 + 2 ="), (1, 3), False)
    assert prompts.records == ({"prompt": "1 + 1 =", "answer": 2}, {"Prompt": "2 + 2 =", "answer": 4})
    assert prompts.where(1) == f"{path}, line 3"
    asked = [{"question": each, "prompt": "unused", "answer": n} for each, n in (("1 + 1 =", 2), ("2 + 2 =", 4))]
    assert load_prompts(write("q.jsonl", asked), FieldNames(prompt_field="question")).prompts == prompts.prompts
    assert load_prompts(write("r.csv", "prompt,answer\n1 + 1 =,2\n")).records == ({"prompt": "1 + 1 =", "answer": "2"},)


def test_a_fingerprint_is_of_prompts_and_records_alone(write):
    records = [{"prompt": "a", "answer": 2}, {"prompt": "b", "answer": 4}]
    path = write("p.jsonl", records)
    first = load_prompts(path).fingerprint
    assert load_prompts(write("q.ndjson", "\n" + Path(path).read_text())).fingerprint == first
    assert load_prompts(write("p.jsonl", [records[0], records[1] | {"answer": 5}])).fingerprint != first


@pytest.mark.parametrize("turns", [[HI], [HI, HELLO, BYE], [{"role": "system", "content": "Be kind."}, HI, HELLO, BYE]])
@pytest.mark.parametrize("field", ["messages", "conversations"])
def test_a_conversation_has_the_tokens_before_its_next_answer(turns, field, write):
    """Those that a model reads in fine-tuning, when it learns that answer."""
    prompts = load_prompts(write("p.jsonl", [{field: turns, "id": 7}]))
    full = parse_conversation("", {"messages": [*turns, {"role": "assistant", "content": "See you."}]})
    *before, _, _ = encode_segments(full)  # the answer, and the nothing after it
    assert GPT2_TOKENIZER.encode_prompt(prompts.prompts[0]) == [token for ids, _ in before for token in ids.tolist()]
    assert prompts.is_chat and prompts.records[0]["id"] == 7
    other = load_prompts(write("p.jsonl", [{"turns": turns}]), FieldNames(messages_field="turns"), end_text="</s>")
    assert other.prompts[0] == prompts.prompts[0].replace("<|endoftext|>", "</s>")


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 2: not JSON"),
        ('{"text": "b"}', "line 2: its fields are 'text', and none is a prompt or messages; name it with --prompt-fie"),
        ('{"prompt": " "}', "line 2: 'prompt' is empty"),
        ('{"prompt": 3}', "line 2: 'prompt' is of type int"),
        ('{"prompt": [{"role": "user"}]}', "line 2: 'prompt' is a list of messages, and must be a text; make it a con"),
        (
            '{"prompt": "b", "messages": []}',
            "line 2: its fields are 'prompt', 'messages', and a prompt is prompt or me",
        ),
        ('{"messages": []}', "line 2: has 'messages', and the first record 'prompt'"),
        ('{"prompt": "b", "x": ' + "[" * 60 + "]" * 60 + "}", "line 2: nested more than 50 levels deep"),
    ],
)
def test_a_record_without_a_prompt_is_one_line(line, message, write):
    path = write("p.jsonl", '{"prompt": "a"}\n' + line)
    with pytest.raises(DataError) as error:
        load_prompts(path)
    assert str(error.value).startswith(f"{path}, {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "messages, message",
    [
        ([], "line 1: 'messages' must be a list of "),
        ([HI, HELLO], "line 1: ends in an answer of the assistant, which the model is to write: jq"),
        ([HI, {"role": "x"}], "line 1, message 2: its 'role' must be system"),
    ],
)
def test_a_conversation_without_a_question_is_one_line(messages, message, write):
    with pytest.raises(DataError) as error:
        load_prompts(write("p.jsonl", [{"messages": messages}]))
    assert message in str(error.value)


def test_other_files_and_fields_are_refused(write):
    with pytest.raises(DataError, match=r'give a .jsonl, .csv or .tsv of "prompt" or "messages"'):
        load_prompts(write("p.txt", "a"))
    with pytest.raises(UsageError, match="--label-field x: a prompt has prompt, or messages"):
        load_prompts("p.jsonl", FieldNames(label_field="x"))


def test_a_fraction_is_drawn_for_validation(write):
    prompts = load_prompts(write("p.jsonl", [{"prompt": f"p{n}"} for n in range(10)]))
    train, val = prompts.split(0.3)
    assert (len(train), len(val)) == (7, 3)
    assert sorted([*train.lines, *val.lines]) == list(range(1, 11)) and list(val.lines) == sorted(val.lines)
    assert all(part.prompts == tuple(f"p{line - 1}" for line in part.lines) for part in (train, val))
    assert prompts.split(0.3) == (train, val) != prompts.split(0.3, seed=1)
    assert len({each.fingerprint for each in (prompts, train, val)}) == 3
    with pytest.raises(DataError, match=r"--val 0.01 of 10 prompts is 0; both sides need some"):
        prompts.split(0.01)
