"""Metrics, read by Prometheus' own parser where it is installed, and in any case line by line."""

import random
import re

import pytest

from jaxgpt.serving.prometheus import SECONDS, Histogram, counter, gauge, render_metrics

HOSTILE = 'a "quoted" \\ text\nin two lines'


def make_metrics():
    histogram, draw = Histogram("jaxgpt_seconds", "How long."), random.Random(0)
    observed = [draw.choice([*SECONDS, draw.expovariate(1), 100.0]) for _ in range(500)]
    for each in observed:
        histogram.observe(each)
    metrics = [
        counter("jaxgpt_texts_total", "Texts.", {(("outcome", "finished"),): 3, (("outcome", HOSTILE),): 4}),
        gauge("jaxgpt_waiting", "Waiting.", 7),
        histogram.metric(),
    ]
    return render_metrics(metrics), observed


def test_each_line_has_the_form():
    text, observed = make_metrics()
    line = re.compile(r'(# (HELP|TYPE) [a-z_]+ .+)|([a-z_]+(\{[a-z]+="([^"\\]|\\[\\"n])*"\})? -?[0-9.e+-]+)')
    assert text.endswith("\n") and all(line.fullmatch(each) for each in text.splitlines())
    assert 'jaxgpt_texts_total{outcome="a \\"quoted\\" \\\\ text\\nin two lines"} 4\n' in text
    for bound in SECONDS:
        assert f'jaxgpt_seconds_bucket{{le="{bound:g}"}} {sum(each <= bound for each in observed)}\n' in text
    assert 'jaxgpt_seconds_bucket{le="+Inf"} 500\n' in text and "jaxgpt_seconds_count 500\n" in text


def test_prometheus_reads_the_same_values():
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus_client")
    text, observed = make_metrics()
    texts, waiting, seconds = parser.text_string_to_metric_families(text)
    assert (texts.type, waiting.type, seconds.type) == ("counter", "gauge", "histogram")
    assert {each.labels["outcome"]: each.value for each in texts.samples} == {"finished": 3, HOSTILE: 4}
    assert [each.value for each in waiting.samples] == [7]
    read = {(each.name, each.labels.get("le")): each.value for each in seconds.samples}
    assert read["jaxgpt_seconds_sum", None] == pytest.approx(sum(observed))
    assert read["jaxgpt_seconds_bucket", "+Inf"] == read["jaxgpt_seconds_count", None] == 500
