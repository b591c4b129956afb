"""Where a policy acts and what that is worth: games, tasks, prompts with a reward. One file each, and one line here."""

import importlib
import inspect
from typing import Any

from jaxgpt.environments.base import Environment
from jaxgpt.errors import UsageError

ENVIRONMENTS = {  # name: its module, imported when it is asked for, and the class or function there that makes it
    "tic-tac-toe": ("jaxgpt.environments.tic_tac_toe", "TicTacToe"),
    "gymnasium": ("jaxgpt.environments.toy_text", "open_toy_text"),
    "reasoning-gym": ("jaxgpt.environments.procedural", "open_task"),
}


def open_environment(spec: str) -> Environment:
    """The environment that --env names: NAME or NAME/TASK, and settings behind a colon.

    `tic-tac-toe:opponent=minimax`, `gymnasium/FrozenLake-v1:is_slippery=true,map_name=4x4`, `reasoning-gym/countdown`.

    Raises:
      UsageError: there is none of that name, it has no such setting, or its library is not installed.
    """
    full_name, _, text = spec.partition(":")
    name, _, task = full_name.partition("/")
    if name not in ENVIRONMENTS:
        raise UsageError(f"--env {spec}: no such environment; use {', '.join(ENVIRONMENTS)}")
    settings = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--env {spec}: {part!r} is no setting; write KEY=VALUE, with commas between them")
        settings[key] = parse_value(value)
    module, maker = ENVIRONMENTS[name]
    make = getattr(importlib.import_module(module), maker)
    task_name, *parameters = inspect.signature(make).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)  # and checks them itself
    known = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    if unknown := next((key for key in settings if key == task_name.name or not (takes_any or key in known)), None):
        raise UsageError(f"--env {spec}: no such setting as {unknown}; it has {', '.join(known) or 'its own alone'}")
    return make(task, **settings)


def parse_value(text: str) -> Any:
    """true, false, a number, or else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
