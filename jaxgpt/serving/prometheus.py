"""Metrics as text, which Prometheus reads.

Source: Prometheus' documentation, "Exposition formats", text format 0.0.4.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # upper bounds of a histogram

Labels = tuple[tuple[str, str], ...]  # names, which are Prometheus' identifiers, with values, which are any text


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric: what it is, and its values by their labels.

    Attributes:
      kind: counter, gauge or histogram.
      samples: (what the name ends in, labels, value), in the order of lines.
    """

    name: str
    kind: str
    about: str
    samples: tuple[tuple[str, Labels, float], ...]


def counter(name: str, about: str, values: float | Mapping[Labels, float]) -> Metric:
    """What only grows; its name ends in _total."""
    return Metric(name, "counter", about, _samples(values))


def gauge(name: str, about: str, values: float | Mapping[Labels, float]) -> Metric:
    """What rises and falls."""
    return Metric(name, "gauge", about, _samples(values))


def _samples(values: float | Mapping[Labels, float]) -> tuple[tuple[str, Labels, float], ...]:
    by_labels = values if isinstance(values, Mapping) else {(): values}
    return tuple(("", labels, value) for labels, value in by_labels.items())


class Histogram:
    """How long something took: the numbers of observations up to each of SECONDS, and their sum."""

    def __init__(self, name: str, about: str):
        self._name, self._about = name, about
        self._counts, self._sum = [0] * (len(SECONDS) + 1), 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def metric(self) -> Metric:
        bounds = [*(f"{bound:g}" for bound in SECONDS), "+Inf"]
        cumulative = list(itertools.accumulate(self._counts))
        buckets = (("_bucket", (("le", bound),), n) for bound, n in zip(bounds, cumulative, strict=True))
        samples = (*buckets, ("_sum", (), self._sum), ("_count", (), cumulative[-1]))
        return Metric(self._name, "histogram", self._about, samples)


def render_metrics(metrics: Iterable[Metric]) -> str:
    """The text of metrics, which may have none of the characters that it escapes but in the values of labels."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.about}", f"# TYPE {metric.name} {metric.kind}"]
        lines += (f"{metric.name}{suffix}{_labels(labels)} {value!r}" for suffix, labels, value in metric.samples)
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    escaped = (f'{name}="{value.translate(ESCAPES)}"' for name, value in labels)
    return f"{{{','.join(escaped)}}}" if labels else ""


ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
