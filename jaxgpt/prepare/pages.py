"""The main text of HTML pages, by trafilatura (Barbaresi, 2021)."""

import unicodedata

from jaxgpt.prepare.words import sort_marks


def extract_text(page: str) -> str | None:
    """A page's main text in NFC, or None; as of trafilatura.extract, which takes quadratic time to normalize marks."""
    from trafilatura import bare_extraction
    from trafilatura.settings import Extractor
    from trafilatura.xml import xmltotxt

    try:
        document = bare_extraction(page, as_dict=False, options=Extractor(precision=True, comments=False))
    except RuntimeError:  # tags in one another, too deep for Python's stack
        return None
    return document and unicodedata.normalize("NFC", sort_marks(xmltotxt(document.body, False)))
