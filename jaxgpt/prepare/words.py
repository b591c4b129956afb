"""Words and sentences, as the filters, MinHash and decontamination count them."""

import itertools
import re

from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer

STOP = r"[.!?\u2026\u3002\uff01\uff1f]"
SENTENCE = re.compile(rf"(?<!{STOP}){STOP}++[\"'\u201d\u2019)\]]*+\s+")  # its end, and the blanks behind it


class Words(WordTokenizer):
    """Blanks part words, as in the paper whose numbers the filters take (Rae et al., 2021, appendix A).

    datatrove would take spaCy's English rules, many times slower; and by them a comma is a word, so that prose
    has too many words without a letter. Languages that are written without blanks have no words by either.
    """

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end].strip() for start, end in self.span_tokenize(text) if text[start:end].strip()]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where each sentence begins and ends; together they are the text."""
        cuts = [0, *(found.end() for found in SENTENCE.finditer(text)), len(text)]
        return [(start, end) for start, end in itertools.pairwise(cuts) if start < end]


WORDS = Words()
# Case, punctuation and accents don't count. Numbers do: datatrove's default makes all of them 0, so that of a hundred
# days of weather, or of sums, one would stay.
SIMPLE = TextNormConfig(norm_numbers=False)
