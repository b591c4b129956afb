import numpy as np
import pytest

from jaxgpt.data.units import read_units, single_rows
from jaxgpt.errors import DataError


def test_rows_with_one_value_are_one_unit(write):
    users = ["ann", "bob", 7, "ann", " 7 ", "cid", "ann"]
    path = write("a.jsonl", [{"prompt": "", "completion": "x", "user": user} for user in users])
    lines = np.array([1, 2, 3, 4, 5, 7])  # that of cid was skipped
    units = read_units(path, "user", lines)
    groups = [units.rows[a:b].tolist() for a, b in zip(units.starts, units.starts[1:], strict=False)]
    assert sorted(groups) == [[0, 3, 5], [1], [2, 4]]  # 0, 3, 5 are ann's; 7 is a number or a text
    assert len(units) == 3


def test_a_row_of_a_unit_is_chosen_by_a_number():
    units = read_units_of([3, 1, 4])
    chosen = units.choose(np.array([0] * 4 + [2] * 4), np.array([0, 0.34, 0.67, 1.0, 0, 0.26, 0.5, 1.0]))
    assert chosen.tolist() == [0, 1, 2, 2, 4, 5, 6, 7]  # 1.0 is what a rounded number may be
    assert single_rows(5).choose(np.arange(5), np.full(5, 0.99)).tolist() == [0, 1, 2, 3, 4]


def read_units_of(counts):
    from jaxgpt.data.units import Units

    return Units(np.arange(sum(counts)), np.append(0, np.cumsum(counts)))


@pytest.mark.parametrize("value", [None, "", "  ", True, 1.5, ["a"]], ids=repr)
def test_a_record_without_a_user_is_named_and_not_quoted(write, value):
    path = write("a.jsonl", [{"user": "ann"}, {"user": value, "text": "secret"}])
    with pytest.raises(
        DataError, match=r"line 2: --dp-unit user needs a text or a whole number there; add it"
    ) as error:
        read_units(path, "user", np.array([1, 2]))
    assert "secret" not in str(error.value)


def test_a_field_that_no_record_has_is_refused(write):
    with pytest.raises(DataError, match=r"line 1: --dp-unit user .*add it \(its fields are 'text', 'uesr'\)$"):
        read_units(write("a.jsonl", [{"text": "b", "uesr": "ann"}]), "user", np.array([1]))
