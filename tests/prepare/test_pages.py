import unicodedata

import pytest
import trafilatura

from jaxgpt.prepare import pages
from jaxgpt.prepare.pages import extract_text

PAGE = """<html><head><title>A diary</title></head><body><nav class="menu"><a href="/">Home</a></nav>
<article><h1>The lighthouse</h1><p>The keeper wrote in his diary <b>every</b> evening, and the entries grew longer.</p>
<p>Nobody had asked him: his grandfather had kept such books before him &mdash; e&#769;.</p><ul><li>A list</li></ul>
</article><div id="comments"><p>I liked this very much, as did all others who have read it.</p></div></body></html>"""


def test_the_text_is_trafilaturas():
    for page in (PAGE, "<p>short</p>", "", 3000 * "<div>" + PAGE, PAGE.replace("evening", "\u0301\u0323e\u0327\u0345")):
        assert extract_text(page) == trafilatura.extract(page, favor_precision=True, include_comments=False)
    assert "\u2014 \u00e9." in extract_text(PAGE) and "liked" not in extract_text(PAGE)


def test_marks_in_entities_and_beside_tags_are_sorted():
    marks = "\u0301\u0323" * 2000
    page = PAGE.replace("every", "q" + "&#769;&#803;" * 1000 + "</b><i>" + "\u0301\u0323" * 1000 + "</i><b>")
    assert unicodedata.normalize("NFC", "q" + marks) in extract_text(page)


def test_pages_of_too_many_nodes_are_refused(monkeypatch):
    monkeypatch.setattr(pages, "PAGE_NODES", 100)
    monkeypatch.setattr(pages, "TAG_ATTRIBUTES", 10)
    sentence = "The sea was calm on that day, and the ship sailed on without any sound. "
    assert sentence.strip() in pages.extract_text(f"<html><body><article><p>{sentence * 9}</article></body></html>")
    for page in ("<p>a" * 101, "<p " + " ".join(f"a{i}" for i in range(11)) + ">", "<p>" + sentence * 100):
        with pytest.raises(pages.PageTooLarge, match="more than 100 elements and attributes, where 56 bytes"):
            pages.extract_text(f"<html><body>{page}</body></html>")


def test_no_text_of_a_page_stays_in_memory():
    extract_text(PAGE)
    assert {f.cache_info().currsize for f in (trafilatura.utils.trim, trafilatura.utils.line_processing)} == {0}
