"""Sentences of English and of a made language, as tab-separated pairs; no sentence is in both files.

The made language has no articles. The verb is last and an adjective follows its noun. Suffixes mark the plural, the
object and the past tense, and their vowel is that of the word's last syllable, as in Turkish: a or e.
"""

import csv
import random
from pathlib import Path

from benchmarks.recipes.names import make_words

NOUNS = ["dog", "cat", "bird", "horse", "fish", "child", "king", "farmer", "sailor", "doctor", "teacher", "friend"]
NOUNS += ["house", "boat", "tree", "river", "road", "garden", "letter", "book", "song", "stone", "lamp", "door"]
NOUNS += ["window", "table", "hat", "coat", "apple", "flower"]
ADJECTIVES = ["old", "young", "small", "big", "red", "green", "white", "black", "good", "bad", "cold", "warm", "quiet"]
ADJECTIVES += ["strange", "heavy", "clever"]
VERBS = ["see", "find", "love", "paint", "carry", "follow", "want", "sell", "visit", "watch", "lift", "move", "praise"]
VERBS += ["wash", "need", "draw"]
PAST = {"see": "saw", "find": "found", "sell": "sold", "draw": "drew", "carry": "carried"}
WITH_S = {"fish": "fish", "child": "children", "watch": "watches", "wash": "washes", "carry": "carries"}
FRONT = "ei"  # vowels after which a suffix has e


def make_dictionary(draw: random.Random) -> dict[str, str]:
    english = [*NOUNS, *ADJECTIVES, *VERBS, "not"]
    return dict(zip(english, make_words(draw, len(english)), strict=True))


def add_suffix(word: str, suffix: str) -> str:
    """The word with a suffix, whose A is a or e."""
    vowel = next(letter for letter in reversed(word) if letter in "aeiou")
    return word + suffix.replace("A", "e" if vowel in FRONT else "a")


def make_phrase(draw: random.Random, dictionary: dict[str, str], is_object: bool) -> tuple[str, list[str], bool]:
    """A noun with its article and adjectives, the words for it, and whether it is plural."""
    noun, is_plural = draw.choice(NOUNS), draw.random() < 0.4
    adjectives = draw.sample(ADJECTIVES, draw.choice((0, 1, 1, 2)))
    article = draw.choice(("the", "some")) if is_plural else draw.choice(("the", "a"))
    if article == "a" and (adjectives or [noun])[0][0] in "aeiou":
        article = "an"
    word = dictionary[noun]
    word = add_suffix(word, "lAr") if is_plural else word
    word = add_suffix(word, "nA") if is_object else word
    english = [article, *adjectives, WITH_S.get(noun, noun + "s") if is_plural else noun]
    return " ".join(english), [word, *(dictionary[each] for each in adjectives)], is_plural


def make_verb(draw: random.Random, dictionary: dict[str, str], is_plural: bool) -> tuple[str, list[str]]:
    """A verb for a subject, and the words for it."""
    verb, is_past, is_negated = draw.choice(VERBS), draw.random() < 0.5, draw.random() < 0.25
    word = add_suffix(dictionary[verb], "dA") if is_past else dictionary[verb]
    if is_negated:
        return f"{'did' if is_past else 'do' if is_plural else 'does'} not {verb}", [dictionary["not"], word]
    if is_past:
        return PAST.get(verb, verb + ("d" if verb[-1] == "e" else "ed")), [word]
    return verb if is_plural else WITH_S.get(verb, verb + "s"), [word]


def make_pair(draw: random.Random, dictionary: dict[str, str]) -> tuple[str, str]:
    """An English sentence and its translation."""
    (subject, first, is_plural), (patient, second, _) = (make_phrase(draw, dictionary, each) for each in (False, True))
    verb, last = make_verb(draw, dictionary, is_plural)
    english = f"{subject} {verb} {patient}."
    return english[0].upper() + english[1:], " ".join([*first, *second, *last]).capitalize() + "."


def write(out: Path, draw: random.Random, train: int, val: int) -> None:
    """train.tsv and val.tsv, and the text of the first for a tokenizer, train.txt."""
    dictionary = make_dictionary(draw)
    pairs: dict[str, str] = {}
    while len(pairs) < train + val:
        english, made = make_pair(draw, dictionary)
        pairs[english] = made
    rows = list(pairs.items())
    for name, some in (("train", rows[val:]), ("val", rows[:val])):
        with (out / f"{name}.tsv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows([("english", "made"), *some])
    (out / "train.txt").write_text("\n".join("\n".join(pair) for pair in rows[val:]), encoding="utf-8")
