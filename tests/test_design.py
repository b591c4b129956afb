"""The house of docs/design.md: folders, floors, one door for each outside library, no circle, a test file each."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxgpt"


def floors():
    """The table of the page, as {folder: floor}; what stands in the package itself is below all of them."""
    rows = re.findall(r"^\| `jaxgpt/(\w+)/` \| (\d) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    return {folder: int(floor) for folder, floor in rows} | {"": 0}


def modules():
    """Every module of the package, as {dotted name: path}."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


ROOFS = ("jaxgpt.__main__", "jaxgpt.api")  # in the package itself, and above all of it
FLOORS = floors()
MODULES = modules()


def imports(path):
    """The modules that a file imports, at its top or in a function: ours, by their dotted names, and outside ones."""
    ours, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            ]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top == "jaxgpt":
                assert name in MODULES, f"{path} imports {name}, which is no module"
                ours.add(name)
            elif top not in sys.stdlib_module_names:
                outside.add(top.removesuffix("_ext"))  # tiktoken_ext is part of tiktoken
    return ours, outside


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def folder(module):
    """The folder of a module; "" for those in the package itself."""
    first = module.removeprefix("jaxgpt").strip(".").partition(".")[0]
    return first if (PACKAGE / first).is_dir() else ""


def test_the_folders_are_those_of_the_page():
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert there == FLOORS.keys() - {""}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_downward_only(module):
    here, height = folder(module), 7 if module in ROOFS else FLOORS[folder(module)]
    upward = {name for name in IMPORTS[module][0] if folder(name) != here and FLOORS[folder(name)] >= height}
    assert not upward, f"{module} (floor {height}) imports {upward}"


def test_nothing_imports_a_roof():
    assert not {name for ours, _ in IMPORTS.values() for name in ours} & set(ROOFS)


def test_there_is_no_circle():
    above = {module: ours - {module} for module, (ours, _) in IMPORTS.items()}
    while above:
        leaves = {module for module, ours in above.items() if not ours & above.keys()}
        assert leaves, f"a circle among {sorted(above)}"
        above = {module: ours for module, ours in above.items() if module not in leaves}


def test_each_module_has_its_tests():
    for module, path in MODULES.items():
        if path.stem not in ("__init__", "errors", "__main__"):
            test = ROOT / "tests" / path.parent.relative_to(PACKAGE) / f"test_{path.stem}.py"
            assert test.exists(), f"{module} has no {test.relative_to(ROOT)}"


@pytest.mark.parametrize(
    "library",
    [
        *("flax", "gymnasium", "huggingface_hub", "jinja2", "kingfisher_sdk", "lm_eval", "matplotlib", "orbax"),
        *("reasoning_gym", "rouge_score", "sacrebleu", "safetensors", "sklearn", "tiktoken", "tokenizers"),
        *("tyro", "tensorboard", "wandb", "mlflow", "trackio", "dp_accounting", "starlette", "uvicorn"),
    ],
)
def test_a_library_has_one_door(library):
    assert sum(library in outside for _, outside in IMPORTS.values()) == 1
