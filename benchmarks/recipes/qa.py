"""Questions on passages about a trader, in SQuAD's JSON; the names in the validation file are in no other."""

import json
import random
from pathlib import Path
from typing import Any

from benchmarks.recipes.names import make_words

GOODS = ["lamps", "ropes", "bread", "carpets", "honey", "boots", "candles", "fish", "apples", "knives", "maps", "salt"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
NUMBERS = ["two", "three", "four", "five", "six", "seven"]
FACTS = [  # wordings of each
    ["{trader} is a trader who sells {goods}.", "The man with the {goods} is {trader}."],
    ["His home is in {home}.", "He lives in {home} by the sea."],
    ["On {day} he goes to the market.", "His market is on {day}."],
    ["He has {number} children.", "His children are {number} in all."],
]
QUESTIONS = {
    "trader": ["Who is the trader?", "Who sells {goods}?"],
    "goods": ["What does {trader} sell?", "What does the man from {home} sell?"],
    "home": ["Where does {trader} live?", "Where is the home of {trader}?"],
    "day": ["When does {trader} go to the market?", "On which day is the market?"],
    "number": ["How many children does {trader} have?", "How many children are there?"],
}


def make_passage(draw: random.Random, names: list[str], number: int) -> dict[str, Any]:
    """A paragraph of SQuAD's JSON."""
    trader, home = draw.sample(names, 2)
    words = {"trader": trader, "home": home, "goods": draw.choice(GOODS)}
    words |= {"day": draw.choice(DAYS), "number": draw.choice(NUMBERS)}
    first, *others = FACTS
    facts = [first, *draw.sample(others, 3)]
    context = " ".join(["It is summer.", *(draw.choice(wordings).format_map(words) for wordings in facts)])
    qas = []
    for field, texts in QUESTIONS.items():
        answer = {"text": words[field], "answer_start": context.index(words[field])}
        question = draw.choice(texts).format_map(words)
        qas.append({"id": f"{number}-{field}", "question": question, "answers": [answer]})
    return {"context": context, "qas": qas}


def ask_for_all(passage: dict[str, Any], number: int) -> dict[str, Any]:
    """The same passage with one question, whose answer is all of it."""
    answer = {"text": passage["context"], "answer_start": 0}
    question = {"id": f"{number}-all", "question": "What does the passage say?", "answers": [answer]}
    return {"context": passage["context"], "qas": [question]}


def write(out: Path, draw: random.Random, train: int, val: int) -> None:
    """train.json and val.json, of so many passages; of the first also copy.json, and train.txt for a tokenizer."""
    names = [name.capitalize() for name in make_words(draw, 12_000)]
    passages = {
        name: [make_passage(draw, some, number) for number in range(count)]
        for name, count, some in (("train", train, names[2_000:]), ("val", val, names[:2_000]))
    }
    passages["copy"] = [ask_for_all(passage, number) for number, passage in enumerate(passages["train"])]
    for name, some in passages.items():
        data = {"version": "1.1", "data": [{"title": "Traders", "paragraphs": some}]}
        (out / f"{name}.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    texts = ([passage["context"], *(qa["question"] for qa in passage["qas"])] for passage in passages["train"])
    (out / "train.txt").write_text("\n".join(text for each in texts for text in each), encoding="utf-8")
