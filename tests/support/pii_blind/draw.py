"""What all blind cases are drawn with: alphabets, patterns and contexts."""

import random
import re
import string
from collections.abc import Callable

Draw = Callable[[random.Random], str]  # of a value
Form = Callable[[random.Random], tuple[str, str]]  # of a text and the value in it

ALPHABETS = {
    "d": string.digits,
    "A": string.ascii_uppercase,
    "a": string.ascii_lowercase,
    "l": string.ascii_letters,
    "DA": string.digits + string.ascii_uppercase,
    "da": string.digits + string.ascii_lowercase,
    "an": string.digits + string.ascii_letters,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "b32": string.ascii_uppercase + "234567",
    "b64": string.digits + string.ascii_letters + "+/",
    "url": string.digits + string.ascii_letters + "-_",
    "word": string.digits + string.ascii_letters + "_",
    "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}


def chars(alphabet: str, count: int, rng: random.Random) -> str:
    return "".join(rng.choices(ALPHABETS[alphabet], k=count))


def fill(pattern: str, rng: random.Random) -> str:
    return re.sub(r"\{(\w+):(\d+)\}", lambda m: chars(m[1], int(m[2]), rng), pattern)


def within(*contexts: str) -> Callable[[Draw], Form]:
    """Puts a value into one of these contexts, in which {} stands for it."""

    def put(draw: Draw) -> Form:
        def form(rng: random.Random) -> tuple[str, str]:
            value = draw(rng)
            return rng.choice(contexts).replace("{}", value), value

        return form

    return put


def luhn(digits: str) -> str:
    """The digit to append (ISO/IEC 7812-1, annex B)."""
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(digits)))
    return str(-total % 10)


def weighted(digits: str, weights: list[int]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=True))
