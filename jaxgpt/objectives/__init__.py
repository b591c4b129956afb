"""What is minimized and measured: one file for objectives of the same data, and one line here."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from jaxgpt.errors import UsageError
from jaxgpt.objectives import (
    classification,
    completion,
    masked,
    multi_token,
    next_token,
    policy,
    preferences,
    regression,
)
from jaxgpt.objectives.base import Objective

OBJECTIVES = {
    "next_token": next_token.OBJECTIVE,
    "multi_token": multi_token.OBJECTIVE,
    "completion": completion.OBJECTIVE,
    "multi_token_completion": multi_token.COMPLETION_OBJECTIVE,
    "classification": classification.OBJECTIVE,
    "masked": masked.OBJECTIVE,
    "regression": regression.OBJECTIVE,
    **preferences.OBJECTIVES,
    **policy.OBJECTIVES,
}


def choose_objective(
    data: str,
    name: str = "auto",
    labels: Sequence[str] = (),
    predict_tokens: int = 1,
    settings: Mapping[str, float] | None = None,
) -> Objective:
    """The objective of a run.

    Args:
      data: the kind of its data.
      name: its name in OBJECTIVES; auto: the first there that reads such data.
      labels: of the data.
      predict_tokens: how many tokens ahead the model predicts.
      settings: of Objective.settings, those that are not the default.

    Raises:
      UsageError: there is none of that name; it does not fit the data, the model or the settings; or it must be named.
    """
    candidates = {
        key: objective
        for key, objective in OBJECTIVES.items()
        if objective.data == data and objective.multi_token == (predict_tokens > 1)
    }
    if name == "auto":
        name = next((key for key, objective in candidates.items() if not objective.by_name), name)
    if name not in candidates:
        choices = ", ".join(candidates) or "none of our objectives"
        if name == "auto" and candidates:
            raise UsageError(f"the data are {data}: say what to learn from them, with --objective {choices}")
        if name in OBJECTIVES and OBJECTIVES[name].data != data:
            needed = OBJECTIVES[name].data
            raise UsageError(f"--objective {name} learns from {needed}, and the data are {data}, for {choices}")
        raise UsageError(f"--objective {name}: {data} with --predict-tokens {predict_tokens} takes {choices}")
    objective, settings = candidates[name], settings or {}
    if unknown := next((key for key in settings if key not in objective.settings), None):
        flag, *takes = (f"--{key}".replace("_", "-") for key in (unknown, *objective.settings))
        has = f"--objective {name} has {', '.join(takes) or 'no such setting'}"
        raise UsageError(f"{flag} {settings[unknown]:g}: {has}; leave it out")
    loss, measure = objective.loss, objective.measure
    if settings:
        loss, measure = (functools.partial(function, **settings) for function in (loss, measure))
    return dataclasses.replace(objective, loss=loss, measure=measure, labels=tuple(labels) or objective.labels)
