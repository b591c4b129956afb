"""Who judges what, and in which order an annotator sees two answers: functions of the judgments, and of nothing else.

Annotators get the items in the order of the file, so that those who share an item meet early in it.
"""

import collections
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

Judged = Mapping[str, Mapping[str, bool]]  # by item and annotator: whether the judgment counts; a skip does not


def index_judgments(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, bool]]:
    """Who has judged which items."""
    judged: dict[str, dict[str, bool]] = collections.defaultdict(dict)
    for record in records:
        judged[record["item"]][record["annotator"]] = record["choice"] != "skip"
    return judged


def next_item(
    annotator: str, items: Collection[str], per_item: int, judged: Judged, claims: Mapping[str, str]
) -> str | None:
    """The item that an annotator judges next: the one that this annotator has, else the first that needs a judgment.

    Args:
      per_item: how many judgments an item needs.
      claims: by annotator, the item that is on the page and not yet judged; it will have that judgment.

    Returns:
      None: there is none, perhaps only until another annotator skips an item or leaves.
    """
    current = claims.get(annotator)
    if current in items and needs(annotator, current, per_item, judged):
        return current
    claimed = collections.Counter(
        item for other, item in claims.items() if other != annotator and other not in judged.get(item, ())
    )
    free = (item for item in items if count(item, judged) + claimed[item] < per_item)
    return next((item for item in free if annotator not in judged.get(item, ())), None)


def progress(annotator: str, items: Collection[str], per_item: int, judged: Judged) -> dict[str, int]:
    """How many items an annotator has judged, has left at most, are done by all, and there are."""
    counts = {"judged": 0, "left": 0, "done": 0, "items": len(items)}
    for item in items:
        counts["judged"] += annotator in judged.get(item, ())
        counts["left"] += needs(annotator, item, per_item, judged)
        counts["done"] += count(item, judged) >= per_item
    return counts


def needs(annotator: str, item: str, per_item: int, judged: Judged) -> bool:
    """Whether an item needs the judgment of an annotator."""
    return annotator not in judged.get(item, ()) and count(item, judged) < per_item


def count(item: str, judged: Judged) -> int:
    """How many judgments of an item count."""
    by_annotator = judged.get(item)
    return sum(by_annotator.values()) if by_annotator else 0


def draw_order(seed: int, annotator: str, item: str) -> tuple[int, int]:
    """The numbers of the answers at places 1 and 2 of an annotator's page: (0, 1) or (1, 0), by a fair coin."""
    first = hash_values("order", seed, annotator, item) % 2
    return first, 1 - first


def draw_seeds(seed: int, item: str) -> tuple[int, int]:
    """The seeds of an item's two answers, below 2**31; no two annotators or starts of the server have others."""
    first, second = (hash_values("answer", seed, item, number) % 2**31 for number in (0, 1))
    return first, second


def hash_values(*parts: Any) -> int:
    """64 bits, as good as random, of some values."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def digest(texts: Sequence[str]) -> str:
    """By what a click says which texts it was about: a hash of them, in the order of the page."""
    return hashlib.sha256("\0".join(f"{len(text)}:{text}" for text in texts).encode()).hexdigest()[:16]
