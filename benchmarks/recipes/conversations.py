"""Make conversations of a table of questions and answers.

python -m benchmarks.recipes.conversations TABLE.csv > CONVERSATIONS.jsonl
"""

import csv
import json
import sys


def make_conversation(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """A record of "messages": a turn of the user, and the answer."""
    turns = (("user", row["question"]), ("assistant", row["answer"]))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            print(json.dumps(make_conversation(row), ensure_ascii=False))


if __name__ == "__main__":
    main()
