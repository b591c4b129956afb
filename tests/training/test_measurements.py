"""What a run measures by its flags: their files, what is refused, and when and in which rows it is measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.text import Text
from jaxgpt.errors import UsageError
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.measurements import Measurements, load_measurements, make_validator, require_measurable

WRITER, JUDGE = SimpleNamespace(labels=()), SimpleNamespace(labels=("bad", "good"))
COMPILED = SimpleNamespace(put=None, measure=None)


def text(**options):
    return Text("a text", np.arange(33, dtype=np.uint16), "its hash", B=2, T=8, tokenizer=ByteTokenizer(), **options)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"sample_prompt": "a"}, "--sample-prompt continues it on one device; leave it out, or add --mesh data=1"),
        ({"val": "0.1", "val_generate": 2}, "--val-generate writes on one device"),
        ({"bias": "pairs.jsonl"}, "--bias and --bias-text measure on one device"),
    ],
)
def test_several_devices_measure_no_more_than_losses(flags, message):
    config = TrainConfig.of(**flags)
    require_measurable(config, 1, WRITER)
    require_measurable(TrainConfig.of(), 2, JUDGE)
    with pytest.raises(UsageError) as caught:
        require_measurable(config, 2, WRITER)
    assert str(caught.value).startswith(message)


def test_a_model_of_labels_has_no_bias_of_sentences():
    with pytest.raises(UsageError, match="scores no text"):
        require_measurable(TrainConfig.of(bias_text="a.txt"), 1, JUDGE)


def test_all_is_measured_in_the_rows_of_this_process_until_the_runs_last_step(write):
    half, none = slice(1, 2), Measurements({}, None, None)
    config = TrainConfig.of(B=4, steps=7, bias=write("pairs.jsonl", [{"more": "a", "less": "b"}]))
    assert make_validator(config, None, none, COMPILED, None, None, bool) is None
    pairs = load_measurements(config, text(), None)
    alone = make_validator(config, None, pairs, COMPILED, None, "base", bool)
    assert (alone.monitor.steps, alone.monitor.batch_size, alone.monitor.base) == (7, 4, "base")
    assert [step for step in range(1, 8) if alone.due(step)] == [7] and alone.also == {}
    config = config.replace(val="0.1", eval_every=3)
    texts = Measurements({"old": text()}, None, None)
    both = make_validator(config, text(rows=half), texts, COMPILED, None, None, bool)
    assert both.also["old"].rows == half and [step for step in range(1, 8) if both.due(step)] == [3, 6, 7]
