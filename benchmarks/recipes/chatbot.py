"""Questions to a shop's support with their answers, as a table; the validation file asks in words of its own."""

import csv
import random
import tomllib
from pathlib import Path

OPENINGS = ["", "", "", "Hi, ", "Hello! ", "Good morning. ", "Sorry, ", "One question: ", "Excuse me, ", "Help! "]
ENDINGS = ["", "", "", " Thanks!", " Thank you.", " Please help.", " It is urgent."]


def vary(draw: random.Random, question: str) -> str:
    """The question as a hurried customer may write it."""
    words = question.split()
    if draw.random() < 0.3 and len(words) > 3:
        words.pop(draw.randrange(len(words)))
    text = draw.choice(OPENINGS) + " ".join(words) + draw.choice(ENDINGS)
    return text.lower().rstrip(".?!") if draw.random() < 0.3 else text


def write(out: Path, draw: random.Random, train: int, val: int) -> None:
    """train.csv and val.csv."""
    topics = tomllib.loads(Path(__file__).with_name("support.toml").read_text(encoding="utf-8"))["topics"]
    seen = [(question, topic["answer"]) for topic in topics for question in topic["questions"]]
    unseen = [(question, topic["answer"]) for topic in topics for question in topic["unseen"]]
    rows = [(vary(draw, question), answer) for question, answer in (draw.choice(seen) for _ in range(train))]
    for name, some in (("train", rows), ("val", unseen[:val])):
        with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("question", "answer"), *some])
