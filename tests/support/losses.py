"""The next-token loss as tests call it."""

from jaxgpt.objectives import OBJECTIVES
from jaxgpt.objectives.base import Objective

NEXT_TOKEN = OBJECTIVES["next_token"]


def mean_loss(model, batch, objective=NEXT_TOKEN):
    """The mean of what an objective minimizes, in nats."""
    total, count = objective.loss(model, batch, None)[objective.minimize]
    return total / count


def objective_of(loss):
    """An objective of a text with this loss: (model, batch) to a sum and a count."""
    return Objective("test", "text", lambda model, batch, keys: {"loss": loss(model, batch)})
