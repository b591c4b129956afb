"""A table that is written to a file is not cut."""

import rich.table

from jaxgpt.commands.evaluate.tables import print_table


def test_a_wide_table_is_whole_in_a_file(capsys):
    cells = [f"column-{number}" for number in range(10)]
    print_table(rich.table.Table(*cells))
    first = capsys.readouterr().out.splitlines()[1]
    assert len(first) > 80 and first.replace("┃", " ").split() == cells
