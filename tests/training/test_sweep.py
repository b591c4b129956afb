import pytest

from jaxgpt.errors import DataError
from jaxgpt.training.sweep import read_sweep


def sweep(tmp_path, text):
    (tmp_path / "s.toml").write_text(text)
    return read_sweep(tmp_path / "s.toml")


def test_every_combination_is_a_run(tmp_path):
    runs = sweep(
        tmp_path,
        """
        [flags]
        steps = 5
        val = 0.1
        untied_head = true
        [grid]
        lr = [1e-3, 0.1]
        seed = [0, 1]
        [rows.a]
        n_layer = 1
        [rows."b c"]
        n-layer = 2
        """,
    )
    assert [run.name for run in runs][:2] == ["a-lr=0.001-seed=0", "a-lr=0.001-seed=1"]
    assert len({run.name for run in runs}) == 8 and runs[-1].name == "b_c-lr=0.1-seed=1"
    assert runs[-1].words == ["--steps=5", "--val=0.1", "--untied-head", "--n-layer=2", "--lr=0.1", "--seed=1"]
    assert (runs[-1].row, runs[-1].values) == ("b c", {"lr": 0.1, "seed": 1})


def test_a_file_without_a_grid_is_one_run(tmp_path):
    (run,) = sweep(tmp_path, "[flags]\nval = 0.1\nuntied_head = false\n")
    assert (run.name, run.words) == ("all", ["--val=0.1", "--no-untied-head"])


@pytest.mark.parametrize(
    "text, error",
    [
        ("lr = [", "is no TOML"),
        ("[grids]\nlr = [1]", r"\[grids\]: no such table; use \[flags\], \[grid\] and \[rows.NAME\]"),
        ("[grid]\nlr = 1e-3", "lr in .grid. must be a list of values"),
        ("[grid]\nlr = []", "lr in .grid. must be a list of values"),
        ("[grid]\nlr = [1, 1]", "lr in .grid. has a value twice"),
        ("[flags]\nlr = [1, 2]", "lr in .flags. must be one value; a list of them belongs into .grid."),
        ("[flags]\nlr = 1\n[grid]\nlr = [1, 2]", "lr is in .grid. and in another table"),
        ("[flags]\nout = 'x'", "out in .flags.: a sweep sets it itself"),
        ("[flags]\nn_layer = 1\nn-layer = 2", "has a flag twice"),
        ("[rows]\na = 1", r"\[rows\] must have tables"),
        ("flags = 1", r"\[flags\] must be a table"),
        ("[grid]\ndata = ['a/b', 'a_b']", "two runs would have the name all-data=a_b"),
        ("[grid]\n" + "".join(f"x{n} = [1, 2, 3, 4, 5]\n" for n in range(30)), "more than 10,000 runs"),
        ("a." * 5000 + "b = 1", "s.toml"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, text, error):
    with pytest.raises(DataError, match=error) as raised:
        sweep(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "bytes", "/dev/null/x"):
        with pytest.raises(DataError):
            read_sweep(tmp_path / path)
