import xml.etree.ElementTree

from jaxgpt.page import make_figure, render_page, render_svg, render_table

NASTY = "</pre><script>alert(1)</script> & \"$x$\" 'y' \x1b[0m"


def test_a_page_is_well_formed_and_shows_texts_as_texts():
    figure, axes = make_figure(2)
    axes.plot([1, 2], [3, 4])
    page = render_page(NASTY, [render_table(NASTY, ["a", NASTY], [[1, NASTY]]), render_svg(figure)])
    parsed = xml.etree.ElementTree.fromstring(
        page.removeprefix("<!DOCTYPE html>").replace('<meta charset="utf-8">', "")
    )
    shown = NASTY.replace("\x1b", "\\x1b")
    texts = [element.text for element in parsed.iter() if element.text and "script" in element.text]
    assert texts == [shown] * 5  # the title twice, the caption, a heading, a cell
    assert parsed.find(".//{http://www.w3.org/2000/svg}svg") is not None and not parsed.findall(".//script")
