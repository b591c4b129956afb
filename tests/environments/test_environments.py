"""--env, from a name and its settings to an environment; each library only where it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxgpt.environments import ENVIRONMENTS, open_environment, parse_value
from jaxgpt.environments.tic_tac_toe import TicTacToe
from jaxgpt.errors import UsageError


def test_a_value_is_a_truth_a_number_or_a_text():
    texts = ("true", "False", "3", "-2", "0.5", "1e-3", "4x4", "", "true story")
    assert [*map(parse_value, texts)] == [True, False, 3, -2, 0.5, 1e-3, "4x4", "", "true story"]
    assert type(parse_value("1")) is int and type(parse_value("true")) is bool


def test_settings_reach_the_environment():
    environment = open_environment("tic-tac-toe:opponent=minimax")
    assert isinstance(environment, TicTacToe) and environment.opponent == "minimax"
    assert open_environment("tic-tac-toe").opponent == open_environment("tic-tac-toe:").opponent == "uniform"


@pytest.mark.parametrize(
    "spec, why",
    [
        ("chess", "no such environment; use tic-tac-toe, gymnasium, reasoning-gym"),
        ("", "no such environment"),
        ("tic-tac-toe:minimax", "'minimax' is no setting; write KEY=VALUE, with commas between them"),
        ("tic-tac-toe:=minimax", "'=minimax' is no setting"),
        ("tic-tac-toe:depth=3", "no such setting as depth; it has opponent"),
        ("tic-tac-toe:task=3", "no such setting as task; it has opponent"),
    ],
)
def test_what_is_no_environment_is_refused(spec, why):
    with pytest.raises(UsageError) as error:
        open_environment(spec)
    assert str(error.value).startswith(f"--env {spec}: ") and why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("library", ["gymnasium", "reasoning_gym.factory"])
def test_a_library_that_is_not_installed_is_named_with_the_way_out(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    name = library.partition(".")[0].replace("_", "-")
    with pytest.raises(UsageError, match=rf"needs {name}: pip install -r requirements-rl\.txt$"):
        open_environment(f"{name}/task")


def test_the_built_in_game_imports_neither_jax_nor_a_library():
    program = (
        "import sys; from jaxgpt.environments import open_environment; open_environment('tic-tac-toe').start(1, 0)"
    )
    program += "; print(*{'jax', 'gymnasium', 'reasoning_gym'} & sys.modules.keys())"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, timeout=60)
    assert (done.stdout, done.stderr, set(ENVIRONMENTS)) == (
        "\n",
        "",
        {"tic-tac-toe", "gymnasium", "reasoning-gym"},
    )
