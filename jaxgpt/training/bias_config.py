"""Which bias a run measures of its model, how often, and how much of it is allowed."""

import dataclasses
import math

from jaxgpt.errors import UsageError, require

_observes = {"observes": True}


@dataclasses.dataclass(frozen=True)
class BiasConfig:
    """What `evaluate` measures with the flags of the same names, while the model trains."""

    bias: str | None = dataclasses.field(default=None, metadata=_observes)
    """Pairs of sentences, as evaluate's --bias: log which of them the model finds likelier; on one device."""
    bias_text: str | None = dataclasses.field(default=None, metadata=_observes)
    """A text, as evaluate's --bias-text: log how much less likely swapped words make it; on one device."""
    swaps: str | None = dataclasses.field(default=None, metadata=_observes)
    """The words that --bias-text swaps: a file in the format of jaxgpt/data/word_swaps.txt, the list by default."""
    bias_every: int = dataclasses.field(default=0, metadata=_observes)
    """Steps between two measurements of bias; the last step always has one. 0: only there."""
    max_bias: float | None = dataclasses.field(default=None, metadata=_observes)
    """End the run when the mean log-odds of --bias, or the gap of --bias-text, is further from 0, in nats."""

    def __post_init__(self):
        require(0 <= self.bias_every < 2**31, "bias_every", self.bias_every, "from 0 to 2**31 - 1")
        most = self.max_bias
        require(most is None or 0 <= most < math.inf, "max_bias", most, "a finite number, 0 or above")
        if not self.is_on and (self.bias_every or most is not None):
            flag = "--max-bias" if most is not None else "--bias-every"
            raise UsageError(f"{flag} has nothing to measure; name a file with --bias or --bias-text")
        if self.swaps is not None and self.bias_text is None:
            raise UsageError("--swaps changes nothing without --bias-text; leave it out")

    @property
    def is_on(self) -> bool:
        return self.bias is not None or self.bias_text is not None
