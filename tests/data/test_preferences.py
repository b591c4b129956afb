"""Judged answers as rows, against the texts that they were made of."""

import itertools
import json
import shutil
import subprocess

import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.errors import DataError

END = 50256


def ids(text):
    return encoding().encode_ordinary(text)


def load(path, T=16, **options):
    return examples.load(path, 2, T, **options)[0]


def texts_of(data):
    """Each sequence without its padding, by pair, and where its answer begins."""
    table = data.table
    tokens, last = table["tokens"][:], table["last"]
    return [
        [(row[:start].tolist(), row[start : end + 1].tolist()) for row, end in zip(pair, ends, strict=True)]
        for pair, ends, start in zip(tokens, last.tolist(), table["start"].tolist(), strict=True)
    ]


def test_a_pair_is_a_row_of_two_sequences(write):
    records = [
        {"prompt": "One and one are", "chosen": " two.", "rejected": " no, three", "margin": 2, "group": "sums"},
        {"prompt": "", "chosen": "So", "rejected": "", "weight": 0.5},
    ]
    data = load(write("a.jsonl", records))
    assert (data.kind, data.labels, data.is_chat, data.num_rows()) == ("preferences", (), False, 2)
    prompt = ids("One and one are")
    assert texts_of(data) == [
        [(prompt, [*ids(" two."), END]), (prompt, [*ids(" no, three"), END])],
        [([END], [*ids("So"), END]), ([END], [END])],
    ]
    assert data.table["tokens"][:].shape == (2, 2, 16) and data.batch(0)[1] == data.B * data.T == 2 * 2 * 16
    numbers = {name: data.table[name].tolist() for name in ("margin", "weight", "group")}
    assert numbers == {"margin": [2, 0], "weight": [1, 0.5], "group": [0, 1]}
    assert data.notes == ("1 pair with an empty answer, which is <|endoftext|> alone",)
    batch, _ = data.batch(0)
    assert {name: array.dtype for name, array in batch.items()} == {
        **dict.fromkeys(("tokens", "start", "last", "group"), np.int32),
        **dict.fromkeys(("margin", "weight"), np.float32),
    }


def test_answers_to_a_conversation_are_its_next_message(write):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    messages += [{"role": "user", "content": "Bye"}]
    pair = {"messages": messages, "chosen": "See you", "rejected": "\nGo"}
    data = load(write("a.jsonl", [pair]), T=64)
    chats = [{"messages": [*messages, {"role": "assistant", "content": pair[name]}]} for name in ("chosen", "rejected")]
    expected = load(write("b.jsonl", chats), T=64)
    packed = [row[: np.flatnonzero(y >= 0)[-1] + 2].tolist() for row, y in rows_of(expected)]
    found = [prompt + answer for prompt, answer in texts_of(data)[0]]
    assert data.is_chat and sorted(found) == sorted(packed)
    (prompt, answer), (same, other) = texts_of(data)[0]
    assert prompt == same and prompt.count(END) == 1
    assert (answer, other) == ([*ids(" See you"), END], [*ids("\nGo"), END])


def rows_of(data):
    """The documents of a packed table with their targets, the last of which ends them."""
    table = data.table
    for row, y, positions in zip(table["tokens"], table["targets"], table["positions"], strict=True):
        starts = [*np.flatnonzero(positions == 0), len(row)]
        for first, end in itertools.pairwise(starts):
            if (y[first:end] >= 0).any():
                yield np.append(row[first:end], END), np.append(y[first:end], -1)


def test_what_does_not_fit_is_cut_or_skipped_and_counted(write):
    pair = {"prompt": "a b c", "chosen": " d e f", "rejected": " d e g"}
    path = write("a.jsonl", [pair, {**pair, "rejected": " x"}, {**pair, "prompt": "a b c d e f g"}])
    data = load(path, T=5)
    assert texts_of(data) == [[(ids("a b c"), ids(" d e")), (ids("a b c"), [*ids(" x"), END])]]
    assert data.notes == (
        "1 pair cut at the end, to --T 5",
        "1 pair skipped: the prompt alone fills --T 5",
        "1 pair skipped: what --T 5 leaves of the two answers is the same",
    )
    with pytest.raises(DataError, match="no pair is left: 3 pairs skipped: the prompt alone fills --T 3; us"):
        load(path, T=3)
    same = write("b.jsonl", [{**pair, "rejected": pair["chosen"]}])
    with pytest.raises(DataError, match=r"b.jsonl: no pair is left: 1 pair skipped: what .* is the same; use"):
        load(same)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_rated_answers(write, suffix):
    records = [("a b", " c", True), ("a b", " c d e", "false"), ("a", "", 1.0)]
    if suffix == "jsonl":
        content = [dict(zip(("prompt", "completion", "good"), record, strict=True)) for record in records]
    else:
        content = "Prompt,completion,good,weight\n" + "".join(f"{a},{b},{c},2\n" for a, b, c in records)
    data = load(write(f"a.{suffix}", content), T=4)
    assert data.kind == "ratings" and data.table["good"].tolist() == [1, 0, 1]
    assert data.table["weight"].tolist() == [2.0 if suffix == "csv" else 1.0] * 3
    ends = data.table["last"].tolist()
    found = [row[: end + 1].tolist() for row, end in zip(data.table["tokens"][:], ends, strict=True)]
    assert found == [[*ids("a b c"), END], ids("a b c d"), [*ids("a"), END]]
    assert data.table["start"].tolist() == [2, 2, 1]
    assert data.notes[0] == "1 answer cut at the end, to --T 4"


def test_the_rows_that_fill_up_a_batch_have_no_weight(write):
    records = [{"prompt": "a", "chosen": f" {n}", "rejected": " x"} for n in range(3)]
    *_, last = load(write("a.jsonl", records)).one_pass()
    assert last["tokens"].shape == (2, 2, 16) and last["weight"].tolist() == [1, 0]
    assert last["last"][1].tolist() == [0, 0] and last["start"][1] == 0


GOOD = {"prompt": "a", "chosen": "b", "rejected": "c"}
MESSAGE = {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"prompt": "a", "chosen": "b"}, "line 2: its fields are 'prompt', 'chosen', and an example has prompt and ch"),
        ({**GOOD, "rejected": None}, "line 2: 'rejected' is of type NoneType, and must be a text"),
        (
            {**GOOD, "margin": "high"},
            "line 2: 'margin' is of type str, and must be a number, from -1e6 to 1e6; correct it",
        ),
        ({**GOOD, "margin": float("nan")}, "line 2: 'margin' is nan, and must be a number"),
        ({**GOOD, "weight": 0}, "line 2: 'weight' is 0, and must be at least 1e-9; correct it, or remove the line"),
        ({**GOOD, "weight": 1e-46}, "line 2: 'weight' is 1e-46, and must be at least 1e-9"),
        (
            {**GOOD, "chosen": [MESSAGE], "rejected": [MESSAGE]},
            r"line 2: 'chosen' is a list of messages, and must be the answer's text: jq -c '\{messages: \(\(.prompt",
        ),
    ],
)
def test_a_bad_pair_is_named_by_its_line(write, bad, message):
    with pytest.raises(DataError, match=message):
        load(write("a.jsonl", [GOOD, bad]))


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
@pytest.mark.parametrize(
    "prompt, whole", [("a", True), ("a", False), ([{"role": "user", "content": "a"}], False), (None, True)]
)
def test_the_command_for_lists_of_messages_converts_each_form_of_trl(write, prompt, whole):
    conversation = [{"role": "user", "content": "a"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("b", "c")]
    chosen, rejected = (conversation + answer for answer in answers) if whole else answers
    path = write("a.jsonl", [{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
    with pytest.raises(DataError, match="is a list of messages") as error:
        load(path)
    command = str(error.value).partition("text: ")[2].replace("FILE", str(path)).partition(" > ")[0]
    converted = json.loads(subprocess.run(command, shell=True, check=True, capture_output=True).stdout)
    assert converted == {"messages": conversation, "chosen": "b", "rejected": "c"}


def test_a_rating_is_true_or_false(write):
    with pytest.raises(DataError, match="line 1: 'good' is of type str, and must be true or false; correct it"):
        load(write("a.jsonl", [{"prompt": "a", "completion": "b", "good": "maybe"}]))


def test_names_of_fields_may_be_others(write):
    path = write("a.jsonl", [{"question": "a", "better": " b", "worse": " c"}])
    fields = examples.FieldNames(prompt_field="question", chosen_field="better", rejected_field="worse")
    assert texts_of(load(path, fields=fields)) == [[(ids("a"), [*ids(" b"), END]), (ids("a"), [*ids(" c"), END])]]
