"""Reviews of a hotel with one of three labels; no review is in both files.

A clause praises, blames or describes. "not" and "never" turn praise into blame and blame into praise. A review with as
much praise as blame is neutral.
"""

import csv
import random
from pathlib import Path

THINGS = ["room", "bed", "breakfast", "view", "pool", "garden", "staff", "bar", "bathroom", "kitchen", "lift", "beach"]
GOOD = ["good", "clean", "lovely", "quiet", "friendly", "comfortable", "excellent", "bright", "pleasant", "perfect"]
BAD = ["bad", "dirty", "awful", "noisy", "rude", "broken", "terrible", "dark", "cold", "disappointing"]
PLAIN = ["large", "small", "blue", "wooden", "new", "Italian", "round", "simple", "modern", "typical"]
DEGREES = ["", "", "very ", "really ", "quite ", "so "]
JOINTS = [" and ", ", and ", ", but ", " while ", "; "]
LABELS = ("negative", "neutral", "positive")


def make_clause(draw: random.Random) -> tuple[str, int]:
    """A statement on one thing, and what it says: 1 praise, 0 neither, -1 blame."""
    value = draw.choice((1, 0, -1))
    word = draw.choice({1: GOOD, 0: PLAIN, -1: BAD}[value])
    turned = draw.random() < 0.3
    negation = draw.choice(("not ", "never ")) if turned else ""
    clause = f"the {draw.choice(THINGS)} was {negation}{draw.choice(DEGREES)}{word}"
    return clause, -value if turned else value


def make_review(draw: random.Random) -> tuple[str, str]:
    clauses = [make_clause(draw) for _ in range(draw.choice((1, 2, 2, 3)))]
    text = clauses[0][0] + "".join(draw.choice(JOINTS) + clause for clause, _ in clauses[1:]) + "."
    total = sum(value for _, value in clauses)
    return text[0].upper() + text[1:], LABELS[1 + (total > 0) - (total < 0)]


def write(out: Path, draw: random.Random, train: int, val: int) -> None:
    """train.csv and val.csv."""
    reviews: dict[str, str] = {}
    while len(reviews) < train + val:
        text, label = make_review(draw)
        reviews[text] = label
    rows = list(reviews.items())
    draw.shuffle(rows)
    for name, some in (("train", rows[val:]), ("val", rows[:val])):
        with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *some])
