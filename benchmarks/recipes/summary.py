"""Short news whose first sentence is the summary, with the fields of CNN/DailyMail's CSV; no name is in both files."""

import csv
import random
from pathlib import Path

from benchmarks.recipes.names import make_words

LEADS = [
    "{person} of {town} won the {prize} on {day}.",
    "The mayor of {town}, {person}, opened a new {place} on {day}.",
    "A storm closed the {place} of {town} on {day}, says {person}.",
    "{person} sold the old {place} of {town} for {number} crowns.",
]
DETAILS = [
    "The news came from {other}.",
    "{other} was there with {number} friends.",
    "It had rained for {number} days.",
    "Nobody in {elsewhere} had expected it.",
    "The road to {elsewhere} is closed until {day}.",
    "People from {elsewhere} came to see it.",
]
WORDS = {
    "prize": ["race", "quiz", "spelling-contest", "chess-cup", "regatta", "bake-off"],
    "place": ["bridge", "school", "library", "market", "harbour", "theatre", "station", "mill"],
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    "number": ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twenty"],
}


def make_article(draw: random.Random, names: list[str]) -> dict[str, str]:
    def fill(template: str) -> str:
        drawn = dict(zip(("person", "town", "other", "elsewhere"), draw.sample(names, 4), strict=True))
        return template.format_map(drawn | {key: draw.choice(words) for key, words in WORDS.items()})

    lead = fill(draw.choice(LEADS))
    details = [fill(each) for each in draw.sample(DETAILS, draw.choice((1, 2, 3)))]
    return {"article": " ".join([lead, *details]) + "\n\nTL;DR:\n", "highlights": lead}


def write(out: Path, draw: random.Random, train: int, val: int) -> None:
    """train.csv and val.csv."""
    names = [name.capitalize() for name in make_words(draw, 12_000)]
    for name, count, some in (("train", train, names[2_000:]), ("val", val, names[:2_000])):
        with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["article", "highlights"])
            writer.writeheader()
            writer.writerows(make_article(draw, some) for _ in range(count))
