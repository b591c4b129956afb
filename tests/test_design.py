"""The doors of docs/design.md: who may import whom, and where each outside library comes in."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# file: (ours, outside); the standard library is free to all
DOORS = {
    "errors": (set(), set()),
    "cli": ({"errors"}, {"tyro"}),
    "config": ({"errors"}, set()),
    "tokenizer": (set(), {"tiktoken", "tiktoken_ext"}),
    "corpus": ({"errors", "tokenizer"}, {"numpy"}),
    "loader": (set(), {"numpy"}),
    "device": ({"errors"}, {"jax", "numpy"}),
    "model": ({"config"}, {"jax", "flax"}),
    "optimizer": (set(), {"jax", "optax"}),
    "step": ({"model"}, {"jax", "optax"}),
    "checkpoint": ({"errors", "step"}, {"jax", "orbax"}),
    "report": ({"errors"}, {"jax", "rich"}),
    "__init__": (set(), set()),
}


def imports(path):
    """The modules that a file imports, at its top or in a function: ours and outside ones."""
    ours, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "jaxgpt" else [node.module]
            )
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            if top == "jaxgpt":
                ours.add(rest[0])
            elif top not in sys.stdlib_module_names:
                outside.add(top)
    return ours, outside


@pytest.mark.parametrize("room", sorted(path.stem for path in (ROOT / "jaxgpt").glob("*.py")))
def test_every_import_goes_through_its_door(room):
    ours, outside = imports(ROOT / "jaxgpt" / f"{room}.py")
    assert ours <= DOORS[room][0]
    assert outside <= DOORS[room][1]


def test_there_is_no_circle():
    above = {room: set(ours) for room, (ours, _) in DOORS.items()}
    while above:
        leaves = {room for room, ours in above.items() if not ours & above.keys()}
        assert leaves, f"a circle among {sorted(above)}"
        above = {room: ours for room, ours in above.items() if room not in leaves}


def test_each_room_has_its_tests():
    for room in DOORS.keys() - {"__init__", "errors"}:
        assert (ROOT / "tests" / f"test_{room}.py").exists(), room


def test_the_design_names_every_room():
    text = (ROOT / "docs" / "design.md").read_text()
    for room in DOORS.keys() - {"__init__"}:
        assert f"`jaxgpt/{room}.py`" in text, room
