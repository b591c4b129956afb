"""Hostile texts for the search for personal data: repetitions of what its patterns begin to match.

    python -m tests.support.pii_hostile --length 1000000 --pieces 300

The pieces come from the compiled patterns themselves, so that new rules are covered: each literal, and prefixes of
strings that a pattern matches. Read in linear time means that four times the length takes at most six times the time.
"""

import argparse
import importlib
import pkgutil
import random
import re
import re._constants as op
import re._parser as parser
import time
from collections.abc import Callable, Iterator

from jaxgpt.prepare import pii
from jaxgpt.prepare.pii import secrets

MODULES = [importlib.import_module(f"{pii.__name__}.{each.name}") for each in pkgutil.iter_modules(pii.__path__)]
PATTERNS = {f"{m.__name__.split('.')[-1]}.{name}": each
            for m in MODULES for name, each in vars(m).items() if isinstance(each, re.Pattern)}  # fmt: skip
RATIO = 6
LEAST_S = 0.1  # below this, the time is mostly noise


def literals(tree: parser.SubPattern) -> Iterator[str]:
    """The runs of literal characters in a parsed pattern."""
    run = ""
    for code, value in tree:
        if code is op.LITERAL:
            run += chr(value)
            continue
        if run:
            yield run
        run = ""
        for branch in _branches(code, value):
            yield from literals(branch)
    if run:
        yield run


def _branches(code, value) -> list[parser.SubPattern]:
    """The patterns inside a node of the tree."""
    if code is op.BRANCH:
        return value[1]
    if code in (op.ASSERT, op.SUBPATTERN):
        return [value[-1]]
    if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        return [value[2]]
    return [value] if code is op.ATOMIC_GROUP else []


def sample(tree: parser.SubPattern, rng: random.Random) -> str:
    """A string that the pattern matches, but for what it wants to see around it."""
    text = ""
    for code, value in tree:
        if code is op.LITERAL:
            text += chr(value)
        elif code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            low, high, inside = value
            for _ in range(rng.randint(low, min(high, low + 3))):
                text += sample(inside, rng)
        elif code is op.IN:
            text += _member(value, rng)
        elif code is op.NOT_LITERAL or code is op.ANY:
            text += "a"
        elif branches := _branches(code, value):
            text += sample(rng.choice(branches), rng) if code is not op.ASSERT else ""
    return text


def _member(items, rng: random.Random) -> str:
    """A character of a set."""
    if items[0][0] is op.NEGATE:
        return next(c for c in "a1 :-\u00e9@" if not re.match(_set(items[1:]), c))
    code, value = rng.choice(items)
    if code is op.RANGE:
        return chr(rng.randint(*value))
    if code is op.CATEGORY:
        return {op.CATEGORY_DIGIT: "1", op.CATEGORY_SPACE: " ", op.CATEGORY_WORD: "a"}.get(value, "-")
    return chr(value)


def _set(items) -> str:
    names = {op.CATEGORY_DIGIT: r"\d", op.CATEGORY_SPACE: r"\s", op.CATEGORY_WORD: r"\w"}
    names |= {op.CATEGORY_NOT_DIGIT: r"\D", op.CATEGORY_NOT_SPACE: r"\S", op.CATEGORY_NOT_WORD: r"\W"}
    members = {op.LITERAL: lambda v: re.escape(chr(v)), op.CATEGORY: names.get,
               op.RANGE: lambda v: f"{re.escape(chr(v[0]))}-{re.escape(chr(v[1]))}"}  # fmt: skip
    return "[" + "".join(members[code](value) for code, value in items) + "]"


def pieces(seed: int = 0) -> list[str]:
    """What to repeat: the literals and some matches of each pattern, and the scanner's words, alone and with a blank.

    They are in a drawn order, so that the first few are a fair sample.
    """
    rng, found = random.Random(seed), set()
    for pattern in PATTERNS.values():
        tree = parser.parse(pattern.pattern, pattern.flags)
        found.update(literals(tree))
        texts = [text for _ in range(4) if (text := sample(tree, rng)[:200])]
        found.update(texts + [text[: rng.randint(1, len(text))] for text in texts])
    for rule in secrets._scanner().rules.metadata():  # in the syntax of Rust, which Python's parser does not read
        found.update(re.findall(r"[A-Za-z0-9_.=/-]{3,}", secrets._scanner().rules.detail(rule["id"])["pattern"]))
    ours = sorted({piece + after for piece in found for after in ("", " ")})
    return rng.sample(ours, len(ours))


def seconds(search: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    search(text)
    return time.process_time() - start


def is_linear(search: Callable[[str], object], piece: str, length: int) -> bool:
    """Whether `length` characters take at most RATIO times as long as a quarter of them; the best of three tries."""
    quarter = piece * (length // len(piece) // 4 + 1)  # whole pieces, so that both texts end alike
    for _ in range(3):
        whole = seconds(search, quarter * 4)
        if whole < LEAST_S or whole < RATIO * seconds(search, quarter):
            return True
    return False


def main() -> None:
    args = argparse.ArgumentParser(description="search hostile texts of two lengths, and compare the times")
    args.add_argument("--length", type=int, default=100_000, help="characters of the longer text")
    args.add_argument("--pieces", type=int, help="how many, in a drawn order (default: all)")
    args = args.parse_args()
    ours = pieces()
    drawn = ours[: args.pieces]
    bad = [piece for piece in drawn if not is_linear(pii.detect, piece, args.length)]
    print(f"{len(drawn):,} of {len(ours):,} pieces, {args.length:,} characters: {len(bad)} not in linear time: {bad}")


if __name__ == "__main__":
    main()
