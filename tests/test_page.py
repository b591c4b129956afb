import re
import xml.etree.ElementTree

import pytest

from jaxgpt.page import COLORS, COLORS_ON_DARK, STYLE, make_figure, render_page, render_png, render_svg, render_table

NASTY = "</pre><script>alert(1)</script> & \"$x$\" 'y' #000000 \x1b[0m"


def parse(page):
    return xml.etree.ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>").replace('<meta charset="utf-8">', ""))


def draw():
    figure, axes = make_figure(2)
    axes.plot([1, 2], [3, 4])
    axes.set_title(NASTY.replace("\x1b", ""), parse_math=False)
    return figure


def test_a_page_is_well_formed_and_shows_texts_as_texts():
    page = parse(render_page(NASTY, [render_table(NASTY, ["a", NASTY], [[1, NASTY]]), render_svg(draw())]))
    shown = NASTY.replace("\x1b", "\\x1b")
    texts = [element.text for element in page.iter() if element.text and "script" in element.text]
    assert texts == [shown] * 5 + [NASTY.replace("\x1b", "")]  # the title twice, the caption, a heading, a cell; a plot
    assert page.find(".//{http://www.w3.org/2000/svg}svg") is not None and not page.findall(".//script")
    policy = page.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    assert policy.startswith("default-src 'none'") and page.find(".//meta[@http-equiv='refresh']") is None


def test_a_page_is_read_again_only_where_that_is_wanted():
    assert parse(render_page("a", [], refresh_s=5)).find(".//meta[@http-equiv='refresh']").get("content") == "5"


def test_a_plot_has_no_colours_but_the_text_s_and_those_of_its_lines():
    styles = " ".join(re.findall('style="([^"]*)"', render_svg(draw())))
    assert set(re.findall("#[0-9a-f]{6}|var.*?;", styles)) == {"var(--line0);"}
    assert "currentColor" in styles and render_svg(draw()) == render_svg(draw())
    assert render_png(draw()).startswith(b"\x89PNG")


def luminance(color):
    """WCAG 2.2's relative luminance."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("dark", "lines"), [(False, COLORS), (True, COLORS_ON_DARK)])
def test_lines_and_texts_stand_out_on_the_light_and_the_dark_page(dark, lines):
    colors = dict(re.findall(r"--(\w+): (#\w+)", STYLE.split("@media")[dark]))
    assert [colors[f"line{i}"] for i in range(4)] == list(lines)
    assert min(contrast(color, colors["page"]) for color in lines) >= 3  # WCAG 1.4.11
    assert contrast(colors["text"], colors["page"]) >= 7
