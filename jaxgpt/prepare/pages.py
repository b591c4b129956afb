"""The main text of HTML pages, by trafilatura (Barbaresi, 2021)."""

import unicodedata
from typing import Any

from jaxgpt.prepare.words import sort_marks

PAGE_NODES, TAG_ATTRIBUTES = 100_000, 1000  # elements and attributes; beyond, trafilatura takes a gigabyte, or minutes
BYTES_PER_NODE = 56  # of text, which take as much of its memory as a node


class PageTooLarge(ValueError):
    """A page has more elements, attributes and text than trafilatura can take; the message has the limit."""


def extract_text(page: str) -> str | None:
    """A page's main text in NFC, or None: the same text as trafilatura.extract, which normalizes in quadratic time.

    Raises:
      PageTooLarge: it has too many elements, attributes and text.
    """
    from trafilatura import utils

    _require_few_nodes(page)
    try:
        return _extract(page)
    finally:
        for function in (utils.trim, utils.line_processing):  # which keep their last 1,024 texts, of any size
            function.cache_clear()


def _extract(page: str) -> str | None:
    from trafilatura import bare_extraction
    from trafilatura.settings import Extractor
    from trafilatura.xml import xmltotxt

    try:
        document = bare_extraction(page, as_dict=False, options=Extractor(precision=True, comments=False))
    except RuntimeError:  # tags in one another, too deep for Python's stack
        return None
    return document and unicodedata.normalize("NFC", sort_marks(xmltotxt(document.body, False)))


def _require_few_nodes(page: str) -> None:
    from lxml.etree import HTMLParser

    content = page.encode()
    parser = HTMLParser(target=NodeCounter(PAGE_NODES - len(content) // BYTES_PER_NODE), encoding="utf-8")
    parser.feed(content)
    parser.close()


class NodeCounter:
    """A target of lxml's parser that refuses pages with too many nodes, before the tree of them is built."""

    def __init__(self, left: int):
        self.left = left

    def start(self, tag: str, attributes: Any) -> None:
        self.left -= 1 + len(attributes)
        if self.left < 0 or len(attributes) > TAG_ATTRIBUTES:
            raise PageTooLarge(
                f"more than {PAGE_NODES:,} elements and attributes, where {BYTES_PER_NODE} bytes count for one, "
                f"or more than {TAG_ATTRIBUTES:,} attributes of an element"
            )

    def close(self) -> None:
        """Required by lxml."""
