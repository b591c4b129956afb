"""The curves, against the rows: where each point is drawn, that no spike is lost, and the mean."""

import itertools
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from jaxgpt.page import render_svg
from jaxgpt.reports.logged_run import load_runs
from jaxgpt.reports.plots import MAX_PLOTS, draw, envelope, moving_mean, plot_names, short_number
from tests.support.run_folders import make_rows, write_run


def parse(figure):
    return xml.etree.ElementTree.fromstring(render_svg(figure))


def find_line(svg, gid):
    """The points of a line in an SVG, in pixels; its markers' where it has some."""
    line = svg.find(f".//*[@id='{gid}']")
    if uses := line.findall(".//{*}use"):
        return [(float(use.get("x")), float(use.get("y"))) for use in uses]
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML] (\S+) (\S+)", line.find("{*}path").get("d"))]


def find_scale(svg, axis):
    """The function from pixels to values that the first and the last tick of an axis have."""
    i, points = "xy".index(axis), []
    for tick in svg.iter():
        if re.fullmatch(rf"{axis}tick_\d+", tick.get("id", "")):
            use = next(tick.iter("{http://www.w3.org/2000/svg}use"))
            label = next(tick.iter("{http://www.w3.org/2000/svg}text")).text
            points.append((float(use.get("xy"[i])), float(label.replace(",", "").replace("\N{MINUS SIGN}", "-"))))
    (p, v), (q, w) = points[0], points[-1]
    return lambda pixel: v + (pixel - p) * (w - v) / (q - p)


@pytest.mark.parametrize(("axis", "field"), [("step", "step"), ("tokens", "tokens_seen"), ("time", None)])
def test_each_point_is_drawn_where_its_row_says(tmp_path, axis, field):
    rows = make_rows(12, every=3)
    rows[7]["loss"] = None  # skipped
    for i, row in enumerate(rows):
        row["grad_norm"] = 2 + (-1) ** i * (1 + i / 12)  # each a corner, which simplifying a line leaves
    run = load_runs([write_run(tmp_path / "run", rows)])
    times = np.cumsum([row["step_ms"] for row in rows]) / 1000
    x = times if field is None else [row[field] for row in rows]
    for name in ("loss", "grad_norm"):
        svg = parse(draw(name, run, axis))
        to_x, to_y = find_scale(svg, "x"), find_scale(svg, "y")
        drawn = [(to_x(p), to_y(q)) for p, q in find_line(svg, f"rows-{name}-0")]
        expected = [(each, row[name]) for each, row in zip(x, rows, strict=True) if row[name] is not None]
        if name == "grad_norm":
            assert np.array(drawn) == pytest.approx(np.array(expected), rel=2e-3)
        else:  # a loss between its neighbours may lie on the line that joins these
            assert np.interp([each for each, _ in expected], *zip(*drawn, strict=True)) == pytest.approx(
                [loss for _, loss in expected], abs=2e-2
            )
            measured = [(each, row["val_loss"]) for each, row in zip(x, rows, strict=True) if "val_loss" in row]
            points = [(to_x(p), to_y(q)) for p, q in find_line(svg, "val-loss-0")]
            assert np.array(points) == pytest.approx(np.array(measured), rel=2e-3)


def test_the_envelope_keeps_the_lowest_and_the_highest_of_each_bucket():
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.uniform(5, 9, 5000)), rng.normal(size=5000)
    y[[7, 4000]] = 99, -99
    y[rng.integers(8, 3000, 50)] = np.nan
    ex, ey = envelope(x, y, buckets=40)
    assert len(ex) <= 80 and {99, -99} <= set(ey) and (np.diff(ex) >= 0).all()
    edges = np.linspace(np.nanmin(x), x.max(), 41)
    for low, high in itertools.pairwise(edges):
        there, kept = y[(x >= low) & (x < high)], ey[(ex >= low) & (ex < high)]
        assert kept.max() == np.nanmax(there) and kept.min() == np.nanmin(there)
    order = rng.permutation(5000)
    assert [each.tolist() for each in envelope(x[order], y[order], 40)] == [ex.tolist(), ey.tolist()]
    assert [each.tolist() for each in envelope(x[:9], y[:9], 40)] == [x[[*range(9)]].tolist(), y[:9].tolist()]
    assert len(envelope(np.full(5000, 3.0), y, 40)[0]) <= 2  # all at one place


def test_the_mean_is_that_of_the_finite_rows_around():
    values = np.array([1.0, 2, np.nan, 4, 5, 6, np.nan])
    means = moving_mean(values, 3, np.arange(7))
    assert means == pytest.approx([1.5, 1.5, 3, 4.5, 5, 5.5, 6])
    assert moving_mean(values, 1, np.array([2, 4])).tolist()[1] == 5
    assert np.isnan(moving_mean(values, 1, np.array([2]))).all()


def test_what_a_run_logs_has_a_plot_and_what_only_counts_has_none(tmp_path):
    rows = [row | {"accuracy": 0.5, "induction/0": 0.1, "skipped": False} for row in make_rows()]
    rows[-1] |= {"val_accuracy": 0.4, "val_f1": 0.3, "val_perplexity": 9.0}
    runs = load_runs([write_run(tmp_path / "a", rows), write_run(tmp_path / "b")])
    names = plot_names(runs)
    assert names == ["loss", "lr", "grad_norm", "tokens_per_s", "accuracy", "induction/0", "f1"]
    svg = parse(draw("accuracy", runs, "step"))
    assert svg.find(".//*[@id='val-accuracy-0']") is not None and svg.find(".//*[@id='rows-accuracy-1']") is None
    spikes = find_line(parse(draw("loss", runs, "step")), "spikes-loss-1")
    assert len(spikes) == 1
    many = [row | {f"x{i}": 1.0 for i in range(99)} for row in make_rows(2)]
    assert len(plot_names(load_runs([write_run(tmp_path / "c", many)]))) == MAX_PLOTS


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("losses", [[], [None], [2.0], [1e308, 1e308], [5e-324, 1.0], [0.0, 1e308, -1e308, None]])
def test_any_numbers_are_drawn(tmp_path, losses):
    rows = [row | {"loss": loss, "step_ms": loss} for row, loss in zip(make_rows(4), losses, strict=False)]
    runs = load_runs([write_run(tmp_path / "run", rows)])
    assert ("loss" in plot_names(runs)) == any(loss is not None for loss in losses)
    assert render_svg(draw("loss", runs, "time", with_names=True)).startswith("<svg")


def test_a_count_is_short():
    assert [short_number(n) for n in (0, 200_000, 1_500_000, 2e9, 3e12)] == ["0", "200,000", "1.5 M", "2 B", "3 T"]


def test_what_few_rows_have_is_drawn_without_a_mean(tmp_path):
    rows = make_rows(400)
    for row in rows[::100]:
        row["probe_induction"] = row["step"] / 400
    runs = load_runs([write_run(tmp_path / "run", rows), write_run(tmp_path / "other", make_rows(400))])
    svg = parse(draw("probe_induction", runs, "step"))
    assert len(find_line(svg, "rows-probe_induction-0")) == 4 and svg.find(".//*[@id='mean-probe_induction-0']") is None
    assert parse(draw("loss", runs, "step")).find(".//*[@id='mean-loss-0']") is not None
