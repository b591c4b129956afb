"""Find documents in tokens: by number, by a pattern, or because they have most of the words of a given text."""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.redaction import contains, merge
from jaxgpt.data.shards import Tokens
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.progress_bar import stage

PIECE = 1 << 24  # tokens that are looked through at a time
WORDS = 5  # of a shingle, as for near duplicates in prepare/dedup.py
NAME = re.compile(r"(\w+):(\d{1,18})", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Found:
    """A document that was looked for.

    Attributes:
      split: where it is.
      number: which document of the split, from 0; documents that were erased count.
      first, end: its tokens, without the end token before it.
      ranges: what of it was found: all of it, or the tokens of matches.
      why: how it was found, in words; without its text.
    """

    split: str
    number: int
    first: int
    end: int
    ranges: tuple[tuple[int, int], ...]
    why: str

    @property
    def is_whole(self) -> bool:
        return self.ranges == ((self.first, self.end),)

    def __str__(self) -> str:
        return f"{self.split}:{self.number}"


def bounds(tokens: np.ndarray | Tokens, tokenizer: Tokenizer) -> np.ndarray:
    """The first token of each document of a text, and the one after its last, int64 (D, 2).

    End tokens that stand for erased ones separate nothing.
    """
    erased = tokens.erased if isinstance(tokens, Tokens) else merge([])
    ends = [np.empty(0, np.int64)]
    if tokenizer.end is not None:
        for first in range(0, len(tokens), PIECE):
            found = first + np.flatnonzero(np.asarray(tokens[first : first + PIECE]) == tokenizer.end)
            ends.append(found[~contains(erased, found)])
    begins = np.concatenate(ends) + 1
    if not len(begins) or begins[0] > 1:  # a text that begins without an end token
        begins = np.concatenate([[0], begins])
    return np.stack([begins, np.append(begins[1:] - 1, len(tokens))], 1)


def search(
    splits: Mapping[str, np.ndarray | Tokens],
    tokenizer: Tokenizer,
    names: Sequence[str] = (),
    pattern: re.Pattern | None = None,
    texts: Mapping[str, str] | None = None,
    similar: float = 1.0,
    spans: bool = False,
) -> list[Found]:
    """The documents of some splits that are named, match a pattern, or are like a text.

    Args:
      names: SPLIT:NUMBER, such as train:17.
      texts: by the name that `Found.why` gives them.
      similar: the share of a text's sequences of five words, 0 to 1, that a document must have to be like it; the texts
        of the named documents count too. 0: nothing is looked for.
      spans: whether of a document that matches the pattern only the tokens of the matches are meant.

    Raises:
      UsageError: there is no such document.
    """
    all_bounds = {split: bounds(tokens, tokenizer) for split, tokens in splits.items()}
    named = [_parse_name(name, all_bounds) for name in names]
    queries = {
        name: _shingles(_decode(splits[split], *all_bounds[split][number], tokenizer))
        for name, (split, number) in zip(names, named, strict=True)
    }
    queries |= {name: _shingles(text) for name, text in (texts or {}).items()}
    for name in queries.keys() - {*names}:
        if not queries[name]:
            raise UsageError(f"{name}: there is no word in it to look for")
    found = []
    for split, tokens in splits.items():
        wanted = {number for each, number in named if each == split}
        with stage(f"documents of {split}", len(all_bounds[split])) as advance:
            for number, (first, end) in enumerate(all_bounds[split].tolist()):
                advance(1)
                if number in wanted:
                    found.append(Found(split, number, first, end, ((first, end),), "named"))
                elif (pattern or (queries and similar)) and np.any(np.asarray(tokens[first:end]) != tokenizer.end):
                    text = _decode(tokens, first, end, tokenizer)
                    matches = [match.span() for match in pattern.finditer(text) if match[0]] if pattern else []
                    why, ranges = "", ((first, end),)
                    if matches:
                        why = plural(len(matches), "match", "matches")
                        if spans:
                            ids = np.asarray(tokens[first:end])
                            ranges = tuple(_tokens_of(text, matches, ids, first, tokenizer))
                    elif similar and (like := _most_similar(queries, text)) and like[0] >= similar:
                        why = f"has {like[0]:.2f} of {like[1]}"
                    if why:
                        found.append(Found(split, number, first, end, ranges, why))
    return found


def _parse_name(name: str, all_bounds: Mapping[str, np.ndarray]) -> tuple[str, int]:
    match = NAME.fullmatch(name)
    count = len(all_bounds[match[1]]) if match and match[1] in all_bounds else 0
    if not match or int(match[2]) >= count:
        ranges = ", ".join(f"{split}:0 to {split}:{len(each) - 1}" for split, each in all_bounds.items() if len(each))
        raise UsageError(f"--doc {name}: no such document; there are {ranges}")
    return match[1], int(match[2])


def _decode(tokens: np.ndarray | Tokens, first: int, end: int, tokenizer: Tokenizer) -> str:
    """The text of a document; bytes that are no character stay as they are, in Python's way."""
    return tokenizer.decode_bytes(tokens[first:end].tolist()).decode("utf-8", errors="surrogateescape")


def _tokens_of(
    text: str, matches: Sequence[tuple[int, int]], ids: np.ndarray, first: int, tokenizer: Tokenizer
) -> Iterator[tuple[int, int]]:
    """The tokens with any byte of the matches, as ranges; `first` is the number of the text's first token."""
    ends = np.cumsum([len(tokenizer.token_bytes(token)) for token in ids.tolist()])
    pairs = []
    for span in matches:
        begin, end = (len(text[:place].encode("utf-8", errors="surrogateescape")) for place in span)
        pairs.append((np.searchsorted(ends, begin, side="right"), np.searchsorted(ends, end, side="left") + 1))
    return ((first + begin, first + end) for begin, end in merge(pairs).tolist())


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The sequences of five words of a text; of a shorter one, its words."""
    words = _words(text)
    size = min(WORDS, len(words))
    return frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1)) if words else frozenset()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _most_similar(queries: Mapping[str, frozenset], text: str) -> tuple[float, str] | None:
    """The largest share of a query's sequences that a text has, and which query's."""
    words, shares = _words(text), []
    sizes = collections.defaultdict(set)
    for name, query in queries.items():
        if query:
            sizes[len(next(iter(query)))].add(name)
    for size, names in sizes.items():
        have = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
        shares += [(len(queries[name] & have) / len(queries[name]), name) for name in names]
    return max(shares, default=None)
