"""Words and sentences, as the filters, MinHash and decontamination count them, and combining marks."""

import dataclasses
import functools
import itertools
import re
import sys
import unicodedata

from datatrove.utils.text import TextNormConfig, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer

STOP = r"[.!?\u2026\u3002\uff01\uff1f]"
SENTENCE = re.compile(rf"(?<!{STOP}){STOP}++[\"'\u201d\u2019)\]]*+\s+")  # a sentence's end, and the blanks behind it


class Words(WordTokenizer):
    """Words are separated by blanks, as in the paper whose thresholds the filters use (Rae et al., 2021, appendix A).

    datatrove would use spaCy's English rules, which are many times slower and count a comma as a word, so that prose
    has too many words without a letter. Neither finds words in languages that are written without blanks.
    """

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end].strip() for start, end in self.span_tokenize(text) if text[start:end].strip()]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where each sentence begins and ends; together they are the text."""
        cuts = [0, *(match.end() for match in SENTENCE.finditer(text)), len(text)]
        return [(start, end) for start, end in itertools.pairwise(cuts) if start < end]


WORDS = Words()
# Case, punctuation and accents are ignored. Numbers are not: datatrove's default makes all of them 0, so that only one
# of a hundred weather reports, or sums, would be kept.
NORMALIZATION = TextNormConfig(norm_numbers=False, norm_unicode_diacritics=False)
SIMPLIFIED = TextNormConfig(*[False] * len(dataclasses.fields(TextNormConfig)))  # for datatrove: what `simplify` made


LONG_MARKS = re.compile(r"[^\x00-\u02ff\w\s]{32,}")  # all long runs of combining marks are in one of these


def sort_marks(text: str) -> str:
    """Put the combining marks of long runs in Unicode's canonical order, which is what normalization does with them.

    `unicodedata.normalize` sorts by insertion: a million mixed marks would take it hours. Marks in order take a moment.
    """
    return text if unicodedata.is_normalized("NFC", text) else LONG_MARKS.sub(_sort_run, text)


def _sort_run(match: re.Match) -> str:
    shared: dict[str, str] = {}  # one object for all equal marks: a million of their own take 80 MB
    decomposed = (unicodedata.normalize("NFD", mark) for mark in match[0])
    marks = "".join(shared.setdefault(each, each) for each in decomposed)
    runs = itertools.groupby(
        (shared.setdefault(mark, mark) for mark in marks), lambda mark: unicodedata.combining(mark) > 0
    )
    return "".join(mark for _, run in runs for mark in sorted(run, key=unicodedata.combining))


def simplify(text: str) -> str:
    """datatrove's simplify_text, in linear time whatever the marks, and without an object for each character."""
    simple = simplify_text(sort_marks(text), NORMALIZATION)
    return unicodedata.normalize("NFD", simple).translate(_accents()).strip()


@functools.cache
def _accents() -> dict[int, None]:
    return dict.fromkeys(code for code in range(sys.maxunicode) if unicodedata.category(chr(code)) == "Mn")
