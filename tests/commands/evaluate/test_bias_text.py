"""--bias-text as a command: what is swapped, by which list, and its JSON."""

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from jaxgpt.reports.evaluations import read_evaluation

TEXT = "He ran home.\n\nNothing here.\n\nMary sat, and he ate."


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


def test_a_text_and_its_mirror_image(folder, write, tmp_path, capsys):
    text, model = write("a.txt", TEXT), folder / "hf"
    assert run(model, "--bias-text", text, "--json", tmp_path / "out.json") == 0
    found, said = read_evaluation(tmp_path / "out.json")["bias_text"], capsys.readouterr().out
    counts = {name: found[name] for name in ("n", "unit", "swapped_words", "without_swap", "swaps")}
    assert counts == {"n": 2, "unit": "paragraph", "swapped_words": 3, "without_swap": 1, "swaps": "default"}
    assert "3 words in 2 paragraphs; 1 without one are left out" in said and "nats a paragraph as it stands" in said
    # A list of one's own; the mirror image of a text that is its own image's has the opposite gap.
    swaps = write("swaps.txt", "he <-> she\nMary <-> Jane\n")
    words = ["--swaps", swaps, "--json", tmp_path / "own.json"]
    assert run(model, "--bias-text", text, *words) == 0
    mirror = write("b.txt", TEXT.replace("He", "She").replace(" he ", " she ").replace("Mary", "Jane"))
    assert run(model, "--bias-text", mirror, "--swaps", swaps, "--json", tmp_path / "mirror.json") == 0
    own, other = (read_evaluation(tmp_path / f"{name}.json")["bias_text"] for name in ("own", "mirror"))
    assert own["swaps"] == swaps and own["gap"] == pytest.approx(-other["gap"]) != 0
