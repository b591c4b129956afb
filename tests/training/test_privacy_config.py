import math

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.training import privacy_config
from jaxgpt.training.config import TrainConfig, fixed_flags
from jaxgpt.training.privacy_config import require_accounting
from tests.support.flags import from_words


@pytest.mark.parametrize(
    "flags",
    [{name: value} for name in ("dp_epsilon", "dp_clip") for value in (0.0, -1.0, math.nan, math.inf)]
    + [{"dp_delta": value} for value in (0.0, 1.0, -0.1, math.nan)]
    + [{"dp_microbatch": 0}, {"dp_seed": -1}],
    ids=str,
)
def test_a_value_out_of_range_is_named(flags):
    ((name, value),) = flags.items()
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} {value} is out of range"):
        TrainConfig.of(**{"dp_epsilon": 1.0} | flags)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"order": "shuffled"}, "--order shuffled: a private run draws each row by chance"),
        ({"mix": "a.txt=1,b.txt=1"}, "the texts of --mix are not drawn with one rate"),
        ({"tokenizer": "chars"}, "its vocabulary is the text's own, without noise; use gpt2 or bytes"),
        ({"objective": "rloo"}, "--objective rloo: answers are written anew in each step"),
        ({"allow_other_data": True}, "leave --allow-other-data out"),
        ({"dp_microbatch": 9, "B": 4, "accumulate": 2}, "--dp-microbatch 9 is more than the 8 rows of a step"),
        ({"dp_unit": ""}, "--dp-unit is empty"),
    ],
)
def test_what_would_break_the_promise_is_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig.of(dp_epsilon=8.0, **flags)


def test_without_a_promise_its_flags_are_refused():
    with pytest.raises(UsageError, match="--dp-unit belongs to a private run; say with --dp-epsilon how private"):
        from_words(["--dp-unit", "user"])
    assert not TrainConfig().privacy.is_private and TrainConfig.of(order="shuffled").data.order == "shuffled"


def test_a_run_that_resumes_keeps_its_promise():
    fixed = fixed_flags(TrainConfig.of(dp_epsilon=8.0))
    assert {"dp_epsilon", "dp_delta", "dp_clip", "dp_unit", "dp_seed"} <= fixed.keys()
    assert "dp_microbatch" not in fixed  # what is computed at a time changes no number but by rounding


def test_without_dp_accounting_a_private_run_is_refused(monkeypatch):
    monkeypatch.setattr(privacy_config.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--dp-epsilon needs dp-accounting: pip install -r requirements-privacy.txt"):
        require_accounting()
