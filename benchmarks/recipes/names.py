"""Made names and words: syllables put together, so that any number of them exist and a model has seen none of some."""

import random

SYLLABLES = [onset + vowel + coda for onset in "bdfgklmnprstvz" for vowel in "aeiou" for coda in "lnr"]


def make_words(draw: random.Random, count: int) -> list[str]:
    """Different words of two syllables in lower case, in a random order."""
    words: dict[str, None] = {}
    while len(words) < count:
        words[draw.choice(SYLLABLES) + draw.choice(SYLLABLES)] = None
    return list(words)
