"""How labels are printed; integration/test_classify.py has the numbers."""

import numpy as np

from jaxgpt.commands.evaluate import labels


def test_many_labels_are_no_table(capsys):
    labels.print_confusion(np.eye(21, dtype=int).tolist(), [str(n) for n in range(21)])
    assert capsys.readouterr().out == "confusion the table of 21 labels is too wide for a page; --json has it\n"
