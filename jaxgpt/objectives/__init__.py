"""What is minimized and measured: one file an objective, and one line here."""

import dataclasses
from collections.abc import Sequence

from jaxgpt.errors import UsageError
from jaxgpt.objectives import classification, completion, masked, multi_token, next_token
from jaxgpt.objectives.base import Objective

OBJECTIVES = {
    "next_token": next_token.OBJECTIVE,
    "multi_token": multi_token.OBJECTIVE,
    "completion": completion.OBJECTIVE,
    "multi_token_completion": multi_token.COMPLETION_OBJECTIVE,
    "classification": classification.OBJECTIVE,
    "masked": masked.OBJECTIVE,
}


def choose_objective(data: str, name: str = "auto", labels: Sequence[str] = (), predict_tokens: int = 1) -> Objective:
    """The objective of a run.

    Args:
      data: the kind of its data.
      name: its name in OBJECTIVES; auto: the first there that reads such data.
      labels: of the data.
      predict_tokens: how many tokens ahead the model predicts.

    Raises:
      UsageError: there is none of that name, or it does not fit the data or the model.
    """
    candidates = {
        key: objective
        for key, objective in OBJECTIVES.items()
        if objective.data == data and objective.multi_token == (predict_tokens > 1)
    }
    if name == "auto":
        name = next(iter(candidates), name)
    if name not in candidates:
        choices = ", ".join(candidates) or "none of our objectives"
        raise UsageError(f"--objective {name}: {data} with --predict-tokens {predict_tokens} takes {choices}")
    return dataclasses.replace(candidates[name], labels=tuple(labels))
