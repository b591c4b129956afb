"""Make conversations of a table of questions and answers.

python -m benchmarks.recipes.conversations TABLE.csv [TURNS] > CONVERSATIONS.jsonl

The rows are taken in order: the first conversation has one turn, the next one two, ... up to TURNS, and one again.
"""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def make_conversations(rows: Iterable[dict[str, str]], turns: int = 1) -> Iterator[dict[str, Any]]:
    """Records of "messages": questions of the user, each with its answer."""
    rows = iter(rows)
    for length in itertools.cycle(range(1, turns + 1)):
        messages = [
            {"role": role, "content": row[column]}
            for row in itertools.islice(rows, length)
            for role, column in (("user", "question"), ("assistant", "answer"))
        ]
        if not messages:
            return
        yield {"messages": messages}


def main() -> None:
    path, *turns = sys.argv[1:]
    with open(path, encoding="utf-8", newline="") as table:
        for conversation in make_conversations(csv.DictReader(table), *map(int, turns)):
            print(json.dumps(conversation, ensure_ascii=False))


if __name__ == "__main__":
    main()
