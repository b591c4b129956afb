"""Prompts with references, against the rows that training makes of the same records."""

import pytest

from jaxgpt.data import examples
from jaxgpt.data.config import FieldNames
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.references import load_references
from jaxgpt.errors import DataError

TURNS = [
    {"role": role, "content": content}
    for role, content in (("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
]
SEE_YOU = {"role": "assistant", "content": "See you."}


@pytest.mark.parametrize("tokenizer", [GPT2_TOKENIZER, ByteTokenizer()], ids=["gpt2", "bytes"])
@pytest.mark.parametrize(
    "record, reference",
    [
        ({"prompt": "Q: 1 + 1? A:", "completion": " 2"}, "2"),
        ({"prompt": "a <|endoftext|> b", "completion": "c"}, "c"),
        ({"prompt": "", "completion": "all"}, "all"),
        ({"prompt": "nothing", "completion": ""}, ""),
        ({"instruction": "Add.", "input": "1, 1", "output": "2"}, "2"),
        ({"instruction": "Add.", "input": "", "output": "\n2"}, "\n2"),
        ({"messages": [*TURNS, SEE_YOU]}, "See you."),
        ({"messages": TURNS, "completion": "See you.", "chosen": "See you.", "rejected": "Hm."}, "See you."),
        ({"messages": [*TURNS[:2], TURNS[2] | {"weight": 0}, TURNS[3], SEE_YOU]}, "See you."),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": " Hello"}]}, "Hello"),
        ({"messages": [*TURNS[:3], {"role": "user", "content": "is left out"}]}, "Hello."),
    ],
)
def test_a_prompt_has_the_tokens_before_the_answer_in_training(write, record, reference, tokenizer):
    path = write("a.jsonl", [record])
    row = examples.load(path, B=1, T=512, tokenizer=tokenizer)[0].table
    tokens, targets = row["tokens"][0].tolist(), row["targets"][0].tolist()
    end = max(column for column, target in enumerate(targets) if target >= 0)
    assert targets[end] == tokenizer.end  # the row's last answer ends there; behind it is nothing that is learned
    data = load_references(path, tokenizer=tokenizer)
    (ids,), ((found,),) = data.tokens, data.references
    answer = [*tokens[len(ids) : end + 1], targets[end]]
    assert ids == tokens[: len(ids)] and answer == targets[len(ids) - 1 : end + 1]
    assert tokenizer.decode(answer[:-1]).removeprefix(" ") == found == reference


def test_a_record_may_have_several_references_under_names_of_its_own(write):
    several = ["Paris", " the capital", ""]
    data = load_references(write("a.jsonl", [{"prompt": "a", "references": several, "id": 7, "completion": "unused"}]))
    assert (data.references, data.ids, data.lines) == ((["Paris", "the capital", ""],), (7,), (1,))
    named = write("b.jsonl", [{"q": "a", "golds": several}, {"q": "b", "golds": "one"}])
    data = load_references(named, FieldNames(prompt_field="q", completion_field="golds"))
    assert [*data.references] == [["Paris", "the capital", ""], ["one"]] and data.prompts == ("a", "b")
    assert load_references(write("b.jsonl", [{"prompt": "a", "references": "one"}])).references == (["one"],)
    alpaca = load_references(write("c.jsonl", [{"instruction": "Add.", "references": several}]))
    assert alpaca.prompts[0].startswith("Below is") and len(alpaca.references[0]) == 3
    asked, answered = [{"messages": TURNS}, {"messages": [*TURNS, SEE_YOU]}]
    first, second = (
        load_references(write("d.jsonl", [record | {"references": several}])) for record in (asked, answered)
    )
    assert first.prompts == second.prompts and first.tokens == second.tokens and first.references == second.references
    assert first.prompts[0].endswith("Assistant: Hello.<|endoftext|>\n\nUser: Bye\n\nAssistant:")
    not_learned = {"messages": [*TURNS, SEE_YOU | {"weight": 0}], "references": several, "id": float("nan")}
    third = load_references(write("e.jsonl", [not_learned]))
    assert (third.prompts, third.references, third.ids) == (first.prompts, first.references, (None,))


def test_tables_are_read_and_some_are_taken(write):
    data = load_references(write("a.csv", "prompt,completion\na,1\nb,2\nc,3\n"))
    taken = data.take([2, 0])
    assert (len(taken), taken.prompts, taken.references, taken.lines) == (2, ("c", "a"), (["3"], ["1"]), (4, 2))
    assert taken.name == data.name


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"prompt": "a"}', 'line 2: its fields are \'prompt\', and it must have "prompt" with "completion"'),
        ('{"prompt": "a", "references": []}', "line 2: 'references' must be a text, or a list of one text or more"),
        ('{"prompt": "a", "completion": ["a", 3]}', "line 2: 'completion' must be a text, or a list of one text or mo"),
        ('{"prompt": "a", "references": ["\\ud800"]}', "line 2: a lone surrogate"),
        ('{"prompt": "a", "completion": "b", "id": ["\\ud800"]}', "line 2: a lone surrogate"),
        ('{"prompt": "a", "references": {"b": 1}}', "line 2: 'references' must be a text, or a list of one text or"),
        ('{"prompt": 3, "completion": "a"}', "line 2: 'prompt' is of type int"),
        ('{"prompt": "a", "completion": "b", "messages": []}', "line 2: its fields are 'prompt', 'completion', 'mess"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 2: no message of the assistant"),
    ],
)
def test_a_record_without_a_reference_is_one_line(write, line, message):
    path = write("a.jsonl", '{"prompt": "a", "completion": "b"}\n' + line)
    with pytest.raises(DataError) as error:
        load_references(path)
    assert str(error.value).startswith(f"{path}, {message}") and "\n" not in str(error.value)
