"""Words that change places with others, such as he and she, by which a text gets its mirror image.

Zhao et al. (2018), arXiv 1804.06876; Lu et al. (2018), arXiv 1807.11714; of names too: Maudslay et al. (2019),
arXiv 1909.00871. The list that ships is word_swaps.txt, which explains the format.
"""

import dataclasses
import hashlib
import re
from pathlib import Path

from jaxgpt.data import records
from jaxgpt.errors import DataError

DEFAULT = "default"  # the name of the list that ships
FUNCTION_WORDS = "function words:"  # what a line of them begins with
_FILE = Path(__file__).with_name("word_swaps.txt")
_WORD = re.compile(r"\w+")  # a run of letters, digits and _: he's and step-mother have two
_NEXT_WORD = re.compile(r"[ \t]*\n?[ \t]*(\w+)")  # which follows without any mark between, perhaps on the next line
_LINE = re.compile(r"(\w+)\s*(<->|->)\s*(\w+)(?:\s*\|\s*(\w+))?")


@dataclasses.dataclass(frozen=True)
class WordSwaps:
    """A list of words, and what takes the place of each.

    Attributes:
      name: what messages call it.
      sha256: of the file.
      pairs: the number of its lines.
      table: a word in each spelling, to its replacement before a noun, and elsewhere.
      function_words: in lower case; a word before any of them is before no noun.
    """

    name: str
    sha256: str
    pairs: int
    table: dict[str, tuple[str, str]]
    function_words: frozenset[str]

    def swap(self, text: str) -> tuple[str, int]:
        """A text with each word of the list replaced, in the same case, and how many were."""
        swapped = 0

        def replace(match: re.Match) -> str:
            nonlocal swapped
            before_noun, elsewhere = self.table.get(match[0], ("", ""))
            if not elsewhere:
                return match[0]
            swapped += 1
            return before_noun if before_noun != elsewhere and self._is_before_noun(match) else elsewhere

        return _WORD.sub(replace, text), swapped

    def _is_before_noun(self, match: re.Match) -> bool:
        """A rule of thumb: a word follows, with no mark between, and is no function word."""
        following = _NEXT_WORD.match(match.string, match.end())
        return following is not None and following[1].lower() not in self.function_words


def read_word_swaps(name: str = DEFAULT) -> WordSwaps:
    """The list that ships, or that of a file.

    Raises:
      DataError: the file can't be read, a line of it is no swap, or two lines replace one word.
    """
    path = _FILE if name == DEFAULT else name
    content = records.read_content(path, "give a list with a swap a line, such as: he <-> she")
    return parse_word_swaps(name, content)


def parse_word_swaps(name: str, content: bytes) -> WordSwaps:
    """The list in a file's content; errors as `read_word_swaps`."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8; convert it first, for example: iconv -f latin1 -t utf-8") from None
    table: dict[str, tuple[str, str]] = {}
    function_words: set[str] = set()
    pairs = 0
    for number, line in enumerate(lines, 1):
        line = line.partition("#")[0].strip()
        if line.startswith(FUNCTION_WORDS):
            function_words |= set(line.removeprefix(FUNCTION_WORDS).lower().split())
        elif line:
            pairs += 1
            _add(table, f"{name}, line {number}", line)
    if not table:
        raise DataError(f"{name}: no swap in it; write one a line, such as: he <-> she")
    return WordSwaps(name, hashlib.sha256(content).hexdigest(), pairs, table, frozenset(function_words))


def _add(table: dict[str, tuple[str, str]], where: str, line: str) -> None:
    match = _LINE.fullmatch(line)
    if not match or (match[2] == "<->" and match[4]):
        raise DataError(f"{where}: is not 'he <-> she', 'him -> her' or 'her -> his | him', of single words; mend it")
    word, arrow, first, second = match.groups()
    _add_spellings(table, where, word, first, second or first)
    if arrow == "<->" and word != first:
        _add_spellings(table, where, first, word, word)


def _add_spellings(table: dict[str, tuple[str, str]], where: str, word: str, *replacements: str) -> None:
    """Add a word as it is, with a capital, and in capitals, where these differ; its replacements alike."""
    if word in table:
        raise DataError(f"{where}: an earlier line replaces the same word; remove one of them")
    for spell in (str, lambda text: text[:1].upper() + text[1:], str.upper):
        # A word of one letter has no third spelling, and so its replacement has none that is undone.
        if (len(word) > 1 and min(map(len, replacements)) > 1) or spell is not str.upper:
            table.setdefault(spell(word), tuple(map(spell, replacements)))
