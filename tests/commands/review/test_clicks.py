"""What becomes of a click: every choice with every order, against the words of the format."""

import itertools

import pytest

from jaxgpt.commands.review.answers import Pair
from jaxgpt.commands.review.clicks import Click, make_record, parse_click
from jaxgpt.commands.review.items import Item
from jaxgpt.data.chat import Message
from jaxgpt.serving.guard import HttpError

BODY = {"id": "c-1_A", "item": "i", "shown": "s", "choice": 1}
PAIR = Pair({"models": [{"name": "m"}, {"name": "n"}], "seeds": [1, 2], "sampling": {}}, ["zero", "one"])
ITEM = Item("i", "a.jsonl, line 1", None, (Message("user", "q"),), "")


def test_what_is_left_out_has_a_default():
    assert parse_click(BODY) == Click("c-1_A", "i", "s", 1, None, None, "", None)
    whole = BODY | {"choice": 2, "edit": " x", "topic": " t ", "remark": "r\n", "seconds": 2, "more": []}
    assert parse_click(whole) == Click("c-1_A", "i", "s", 2, " x", "t", "r", 2)
    for name in BODY:
        with pytest.raises(HttpError, match=f"^'{name}' must be"):
            parse_click({key: value for key, value in BODY.items() if key != name})


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_place_is_the_answer_that_was_there(order):
    texts = ["zero", "one"]
    for choice, edit in itertools.product((1, 2, "tie", "skip"), (None, "new")):
        if edit and isinstance(choice, str):
            continue
        record = make_record(Click("c", "i", "s", choice, edit, "t", "r", 1.5), "anna", ITEM, PAIR, order)
        assert record["messages"] == [{"role": "user", "content": "q"}] and "prompt" not in record
        assert (record["answers"], record["order"], record["seeds"]) == (texts, [*order], [1, 2])
        if isinstance(choice, str):
            assert record["winner"] is None and not {"chosen", "rejected", "completion"} & record.keys()
            continue
        on_page = [texts[number] for number in order]
        better, worse = on_page[choice - 1], on_page[2 - choice]
        assert record["answers"][record["winner"]] == better and record["edited"] == bool(edit)
        assert (record["chosen"], record["rejected"]) == (("new", better) if edit else (better, worse))
        assert record["completion"] == record["chosen"]
