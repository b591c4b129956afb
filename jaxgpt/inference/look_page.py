"""The page that `jaxgpt look` writes: what happens inside a model, as tables whose colours are the numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxgpt.console import escape
from jaxgpt.page import escape_html, render_page, wrap_rows

BLUE, RED = "0,114,178", "213,94,0"  # above and below 0; their opacity is the size, on a light or a dark page
STYLE = """
.heat { font-size: .8em }
.heat th, .heat td { padding: .1rem .4rem; min-width: 2.5rem; text-align: center }
.heat th:first-child { min-width: 5rem; text-align: left; white-space: nowrap }
.heat svg { width: 4rem; height: 4rem; shape-rendering: crispEdges; background: var(--shade); fill: rgb(0,114,178) }
"""
MAP_CELLS = 64  # of an attention map's width; of a longer prompt, a cell is the highest of several tokens
MAP_SHADES = 8
HEADS_SHOWN = 8


def render_findings(findings: dict[str, Any]) -> str:
    """The page of what commands.look.examine returns. Tokens and names are text, whatever they contain."""
    tokens, (answer, other) = findings["tokens"], findings["answers"]
    parts = [f"<p>After {escape_html(repr(''.join(tokens)))}:</p><ul>"]
    parts += [f"<li>{format_answer(each)}</li>" for each in (answer, other)]
    parts += ["</ul>", render_lens(tokens, findings["lens"])]
    first, second = findings["attribution"]
    difference = {name: share - second[name] for name, share in first.items()}
    names = escape(repr(answer["token"])), escape(repr(other["token"]))
    parts.append(render_attribution(f"What adds to the logit of {names[0]}", first))
    comparison = f"What adds to the logit of {names[0]} more than to that of {names[1]}"
    parts.append(render_attribution(comparison, difference))
    parts.append(render_attended(tokens, findings["attention"], difference["heads"]))
    parts.append(render_maps(findings["attention"]))
    for name, scores in findings["scores"].items():
        title = f"{name.replace('_', ' ').capitalize()} score"
        parts.append(render_heatmap(title, *by_head(scores), largest=1))
    if patching := findings.get("patching"):
        parts += render_patching(tokens, patching, names)
    return render_page(f"A look inside {findings['model']}", parts, STYLE, generator="jaxgpt look")


def format_answer(answer: dict[str, Any]) -> str:
    """An answer in words, as HTML."""
    return escape_html(f"{answer['token']!r}: probability {answer['probability']:.2%}, logit {answer['logit']:.4f}")


def render_lens(tokens: Sequence[str], lens: dict[str, Any]) -> str:
    rows = []
    for layer, (names, probabilities) in enumerate(zip(lens["tokens"], lens["probabilities"], strict=True)):
        cells = []
        for top, shares in zip(names, probabilities, strict=True):
            hint = ", ".join(f"{token!r} {share:.1%}" for token, share in zip(top, shares, strict=True))
            cells.append((show_token(top[0]), float(shares[0]), hint))
        rows.append((f"layer {layer - 1}" if layer else "embedding", cells))
    title = "Logit lens: the likeliest next token by each layer's stream, with ln_f's scale computed anew"
    return render_heatmap(title, map(show_token, tokens), rows, largest=1)


def render_attribution(title: str, shares: dict[str, np.ndarray]) -> str:
    """The shares of attribution.Attribution: a row for each layer, and the embeddings, the last bias and the sum."""
    L, H = shares["heads"].shape
    header = [*(f"head {head}" for head in range(H)), "biases", "mlp"]
    columns = np.column_stack([shares["heads"], shares["attention_biases"], shares["mlps"]])
    rows = [(f"layer {layer}", number_cells(columns[layer])) for layer in range(L)]
    largest = float(np.abs(columns).max())
    ends = [("token", "token embedding"), ("position", "position embedding"), ("final_bias", "ln_f's bias")]
    rest = ", ".join(f"{words} {float(shares[name]):+.4f}" for name, words in ends)
    total = sum(float(share.sum()) for share in shares.values())
    sentence = escape_html(f"{rest}; the sum of all is {total:+.4f}")
    return f"{render_heatmap(title, header, rows, largest)}\n<p>{sentence}</p>"


def render_attended(tokens: Sequence[str], attention: np.ndarray, shares: np.ndarray) -> str:
    """What the last token attends to, of the heads with the largest shares, (L, H)."""
    rows = []
    for layer, head in largest_heads(shares, HEADS_SHOWN):
        label = f"head {name_head(layer, head)} ({shares[layer, head]:+.2f})"
        rows.append((label, number_cells(attention[layer, head, -1], "{:.2f}")))
    title = "What the last token attends to, by the heads that add most to the difference"
    return render_heatmap(title, map(show_token, tokens), rows, largest=1)


def render_patching(tokens: Sequence[str], patching: dict[str, Any], names: tuple[str, str]) -> list[str]:
    prompt, other = patching["logit_differences"]
    change = f"the logit of {names[0]} minus that of {names[1]}, {prompt:+.4f} here and {other:+.4f} there"
    parts = [f"<h2>Patching from {escape_html(repr(''.join(patching['tokens'])))}</h2>"]
    parts.append(f"<p>What one activation of that prompt, put into this one, changes: {escape_html(change)}.</p>")
    heads = patching["heads"] - prompt
    parts.append(render_heatmap("Each head's output, for all tokens", *by_head(heads), float(np.abs(heads).max())))
    if patching["positions"] is not None:
        effects = patching["positions"] - prompt
        rows = [(f"layer {layer}", number_cells(effects[layer])) for layer in range(len(effects))]
        title = "The residual stream that a layer reads, at one token"
        parts.append(render_heatmap(title, map(show_token, tokens), rows, float(np.abs(effects).max())))
    return parts


def render_maps(attention: np.ndarray) -> str:
    """The maps of all heads, float (L, H, T, T), in each the attending tokens from top to bottom."""
    step = -(-attention.shape[-1] // MAP_CELLS)
    starts = np.arange(0, attention.shape[-1], step)
    maps = np.maximum.reduceat(np.maximum.reduceat(attention, starts, axis=2), starts, axis=3)
    rows = []
    for layer, row in enumerate(maps):
        cells = (f'<td title="{name_head(layer, head)}">{_draw_map(each)}</td>' for head, each in enumerate(row))
        rows.append(f"<th>layer {layer}</th>{''.join(cells)}")
    header = [f"head {head}" for head in range(attention.shape[1])]
    title = "Attention maps: each token's row shows what it attends to, the first one at the top left"
    return wrap_rows(title, ["", *header], rows, css_class="heat")


def _draw_map(attention: np.ndarray) -> str:
    """A square as SVG, (N, N): a path of all cells of a shade."""
    shades = np.rint(MAP_SHADES * attention).astype(int)
    paths = []
    for shade in range(1, MAP_SHADES + 1):
        cells = "".join(f"M{x} {y}h1v1h-1z" for y, x in np.argwhere(shades == shade).tolist())
        paths.append(f'<path opacity="{shade / MAP_SHADES:.2f}" d="{cells}"/>' if cells else "")
    return f'<svg viewBox="0 0 {len(attention)} {len(attention)}">{"".join(paths)}</svg>'


# ---- Tables that are coloured by their numbers ---------------------------------------------------------------------

Cell = tuple[str, float, str]  # what it shows, its number, and what it shows to a pointer
Row = tuple[str, Sequence[Cell]]  # its label, and its cells


def render_heatmap(title: str, header: Iterable[str], rows: Iterable[Row], largest: float) -> str:
    """A table as HTML, each cell coloured by its number, fully at `largest`; all that it shows is text."""
    cells = (f"<th>{escape_html(label)}</th>{''.join(_cell(*cell, largest) for cell in row)}" for label, row in rows)
    return wrap_rows(title, ["", *header], cells, css_class="heat")


def _cell(text: str, number: float, hint: str, largest: float) -> str:
    opacity = 0.75 * min(1.0, abs(number) / largest) if largest > 0 else 0.0
    color = f"background:rgba({BLUE if number > 0 else RED},{opacity:.2f})"
    return f'<td style="{color}" title="{escape_html(escape(hint))}">{escape_html(text)}</td>'


def number_cells(numbers: np.ndarray, form: str = "{:+.2f}") -> list[Cell]:
    return [(form.format(number), number, f"{number:.6g}") for number in numbers.tolist()]


def by_head(numbers: np.ndarray) -> tuple[list[str], list[Row]]:
    """Header and rows of a table of (L, H)."""
    rows = [(f"layer {layer}", number_cells(row, "{:.2f}")) for layer, row in enumerate(numbers)]
    return [f"head {head}" for head in range(numbers.shape[1])], rows


def largest_heads(numbers: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Layer and head of the numbers farthest from 0, of (L, H)."""
    order = np.argsort(-np.abs(numbers), axis=None, kind="stable")[:count]
    return [divmod(int(number), numbers.shape[1]) for number in order]


def name_head(layer: int, head: int) -> str:
    """What the literature calls a head: 9.6 is head 6 of layer 9, both counted from 0."""
    return f"{layer}.{head}"


def show_token(token: str) -> str:
    """A token in a cell, where a blank at its beginning would be lost."""
    return escape(token).replace(" ", "·")
