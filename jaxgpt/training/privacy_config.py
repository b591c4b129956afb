"""Differential privacy as flags: what a run promises, and for whom. No JAX."""

import dataclasses
import importlib.util
import math
from typing import Any

from jaxgpt.errors import UsageError, require
from jaxgpt.training.post_training import POLICIES

ROW = "row"
INSTALL = "pip install -r requirements-privacy.txt"


@dataclasses.dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy: a run that hardly depends on any one row of its data, by clipped gradients and noise."""

    dp_epsilon: float | None = None
    """The privacy loss that the whole run may have: 1 is strong, 8 is usual. --B times --accumulate is then the
    expected number of rows of a step. By default a run makes no such promise."""
    dp_delta: float = 1e-6
    """The probability with which the promise may fail; below 1 / the number of rows, or of users."""
    dp_clip: float = 1.0
    """The largest norm of the gradient of one row; longer ones are scaled down to it."""
    dp_unit: str = ROW
    """What is protected: row; or the name of a field of the records, such as user: all rows with one value there."""
    dp_microbatch: int = dataclasses.field(default=1, metadata={"may_change": True})
    """Rows whose gradients are computed, and held, at a time."""
    dp_seed: int | None = None
    """For tests: draw rows and noise by this number in place of a secret. Who knows it can take the noise away."""

    def __post_init__(self):
        for name in ("dp_epsilon", "dp_clip"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, name, value, "a finite number above 0")
        require(0 < self.dp_delta < 1, "dp_delta", self.dp_delta, "between 0 and 1")
        require(1 <= self.dp_microbatch < 2**31, "dp_microbatch", self.dp_microbatch, "from 1 to 2**31 - 1")
        require(self.dp_seed is None or 0 <= self.dp_seed < 2**31, "dp_seed", self.dp_seed, "from 0 to 2**31 - 1")
        if not self.dp_unit:
            raise UsageError("--dp-unit is empty; name a field, or leave it out")
        given = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        if self.dp_epsilon is None and given:
            flag = f"--{given[0].replace('_', '-')}"
            raise UsageError(f"{flag} belongs to a private run; say with --dp-epsilon how private, or leave it out")

    @property
    def is_private(self) -> bool:
        return self.dp_epsilon is not None

    def require_flags(self, config: Any) -> None:
        """Refuse, in a private run, what would break the promise: other flags of a TrainConfig, which has this."""
        if not self.is_private:
            return
        data, objective = config.data, config.preset.objective
        if objective in POLICIES:
            learns = "answers are written anew in each step, and no row is drawn"
            raise UsageError(f"--dp-epsilon: --objective {objective}: {learns}; leave one out")
        if data.mix is not None:
            raise UsageError("--dp-epsilon: the texts of --mix are not drawn with one rate; name one with --data")
        if data.order != "sequential":
            self.refuse_order(data.order)
        if data.tokenizer == "chars":
            reveals = "its vocabulary is the text's own, without noise"
            raise UsageError(f"--dp-epsilon: --tokenizer chars: {reveals}; use gpt2 or bytes")
        if data.allow_other_data:
            raise UsageError("--dp-epsilon: its rate and noise are for one text; leave --allow-other-data out")
        if self.dp_microbatch > data.B_step:
            most = f"--dp-microbatch {self.dp_microbatch} is more than the {data.B_step} rows of a step"
            raise UsageError(f"{most}; use at most that")

    def refuse_order(self, order: str) -> None:
        """Refuse an --order that was given."""
        drawn = "a private run draws each row by chance, and epsilon counts on that"
        raise UsageError(f"--order {order}: {drawn}; leave --order out")


def require_accounting() -> None:
    """Refuse a private run without dp-accounting."""
    if importlib.util.find_spec("dp_accounting") is None:
        raise UsageError(f"--dp-epsilon needs dp-accounting: {INSTALL}")
