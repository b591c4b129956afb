"""What may not become worse: each gate measures two models item by item, and compares them.

A measurement of `--gate` is a function and a line in MEASUREMENTS.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxgpt.commands.update.config import UpdateConfig
from jaxgpt.commands.update.plan import Plan
from jaxgpt.data.datasets import open_data
from jaxgpt.data.references import load_references, strip_separator
from jaxgpt.data.text import Text
from jaxgpt.errors import UsageError
from jaxgpt.inference import multiple_choice
from jaxgpt.inference.answer_metrics import score_answers
from jaxgpt.progress_bar import stage

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.paired import Change, Sums
    from jaxgpt.models.base import Model

MAX_NEW_TOKENS = 128  # of an answer, as evaluate --generate
Measure = Callable[["Model"], "Sums"]


@dataclasses.dataclass(frozen=True)
class Gate:
    """One measurement.

    Attributes:
      name: in lineage.json.
      measure: of a model.
      is_loss: whether lower is better.
      limit: how much worse it may become, beyond two standard errors of the change; None: it refuses nothing.
    """

    name: str
    measure: Measure
    is_loss: bool = True
    limit: float | None = 0.0

    def judge(self, change: "Change") -> dict[str, Any]:
        """The entry of lineage.json. A change that is not a number is not passed, nor is an error that is none."""
        worse = change.change if self.is_loss else -change.change
        passed = self.limit is None or worse <= self.limit + 2 * change.stderr
        return {"name": self.name, **dataclasses.asdict(change), "limit": self.limit, "passed": bool(passed)}


def make_gates(config: UpdateConfig, plan: Plan) -> list[Gate]:
    """The new text, which refuses nothing; each old one; and those of --gate. Their files are read here.

    Raises:
      UsageError: there are too few windows or items for a standard error.
    """
    data = plan.train.data
    gates = [gate_of_text(f"new loss on {data.val}", plan.new, None)]
    for name, text in data.val_also_texts.items():
        gates.append(gate_of_text(f"old loss on {text}", plan.old[name], config.max_forgetting))
    for word in config.gate:
        name, _, value = word.partition("=")
        gates.append(MEASUREMENTS[name](word, value, plan))
    return gates


def gate_of_text(name: str, data: Text, limit: float | None) -> Gate:
    require_several(name, data.num_rows(), f"windows of {data.T:,} tokens")

    def measure(model: "Model") -> "Sums":
        from jaxgpt.inference.paired import window_losses

        with stage("windows", data.num_rows()) as advance:
            return window_losses(model, data, advance)

    return Gate(name, measure, limit=limit)


def require_several(name: str, n: int, items: str) -> None:
    if n < 2:
        raise UsageError(f"{name}: a standard error needs two {items} or more, and there is {n}; use a longer file")


def gate_of_data(name: str, value: str, plan: Plan) -> Gate:
    options = {"split": "val", "horizon": plan.data.horizon, "tokenizer": plan.data.tokenizer}
    data = open_data(value, plan.new.B, plan.new.T, flag="--gate", **options)
    if data.kind != "text":
        raise UsageError(f"--gate {name}: {value} has examples; measure their answers with generate={value}")
    return gate_of_text(name, data, 0.0)


def gate_of_choices(name: str, value: str, plan: Plan) -> Gate:
    weights = plan.weights
    items = multiple_choice.read_items(value, weights.config.block_size, weights.tokenizer)
    require_several(f"--gate {name}", len(items), "items")

    def measure(model: "Model") -> "Sums":
        from jaxgpt.inference.score import score

        requests = [request for item in items for request in item.requests]
        with stage("choices", len(requests)) as advance:
            scores = iter(score(model, requests, plan.new.B, advance))
        by_item = [[next(scores).log_likelihood for _ in item.requests] for item in items]
        return make_sums(multiple_choice.find_hits(items, by_item))

    return Gate(name, measure, is_loss=False)


def gate_of_answers(name: str, value: str, plan: Plan) -> Gate:
    tokenizer = plan.weights.tokenizer
    data = load_references(value, plan.train.fields, tokenizer)
    require_several(f"--gate {name}", len(data), "prompts")

    def measure(model: "Model") -> "Sums":
        from jaxgpt.inference.complete import complete
        from jaxgpt.inference.sampling import make_sampling_params

        greedy = make_sampling_params(0.0, 0, 1.0, stop=tokenizer.end)
        with stage("answers", len(data)) as advance:
            written = complete(model, data.tokens, MAX_NEW_TOKENS, plan.new.B, greedy, 0, advance)
        answers = [strip_separator(tokenizer.decode(ids)) for ids in written]
        return make_sums(score_answers(("f1",), answers, data.references)["f1"].items)

    return Gate(name, measure, is_loss=False)


def make_sums(items: Any) -> "Sums":
    """The sums of items that count once each."""
    import numpy as np

    from jaxgpt.inference.paired import Sums

    return Sums(np.array(items, np.float64), np.ones(len(items)))


MEASUREMENTS = {"data": gate_of_data, "choices": gate_of_choices, "generate": gate_of_answers}
