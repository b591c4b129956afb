"""The doors of docs/design.md: who may import whom, and where each outside library comes in."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def doors():
    """The table of the page, as {room: (ours, outside)}; the standard library is free to all."""
    table = {}
    for line in (ROOT / "docs" / "design.md").read_text().splitlines():
        if line.startswith("| `jaxgpt/"):
            file, _, _, may = (cell.strip() for cell in line.strip("|").split("|"))
            ours, outside = (set(side.replace("-", " ").replace(",", " ").split()) for side in may.split("/"))
            table[Path(file.strip("`")).stem] = (ours, outside)
    return table


DOORS = doors()


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
                outside.add(top.removesuffix("_ext"))  # tiktoken_ext is part of tiktoken
    return ours, outside


@pytest.mark.parametrize("room", sorted({path.stem for path in (ROOT / "jaxgpt").glob("*.py")} - {"__init__"}))
def test_every_import_goes_through_its_door(room):
    ours, outside = imports(ROOT / "jaxgpt" / f"{room}.py")
    assert (ours, outside) == DOORS[room]


def test_there_is_no_circle():
    above = {room: set(ours) for room, (ours, _) in DOORS.items()}
    while above:
        leaves = {room for room, ours in above.items() if not ours & above.keys()}
        assert leaves, f"a circle among {sorted(above)}"
        above = {room: ours for room, ours in above.items() if room not in leaves}


def test_each_room_has_its_tests():
    for room in DOORS.keys() - {"errors"}:
        assert (ROOT / "tests" / f"test_{room}.py").exists(), room


@pytest.mark.parametrize(
    "library", ["flax", "huggingface_hub", "lm_eval", "matplotlib", "orbax", "safetensors", "tiktoken", "tyro"]
)
def test_a_library_has_one_door(library):
    assert sum(library in outside for _, outside in DOORS.values()) == 1
