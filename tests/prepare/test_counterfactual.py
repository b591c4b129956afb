"""Mirror images of documents: which have one, and that none of them is, or has, a text of validation."""

import json

import numpy as np
from datatrove.data import Document

from jaxgpt import console
from jaxgpt.commands import prepare
from jaxgpt.data import shards
from jaxgpt.data.word_swaps import parse_word_swaps, read_word_swaps
from jaxgpt.prepare import decontaminate
from jaxgpt.prepare.counterfactual import Mirror
from jaxgpt.prepare.tokenize import is_validation

SWAPS = parse_word_swaps("list", b"he <-> she\n")


def mirror(step, *texts):
    documents = (Document(text, "", metadata={"file": "f", "unit": 0, "line": i}) for i, text in enumerate(texts))
    return [(each.text, each.metadata["line"]) for each in step.run(documents)]


def counts(step):
    return {name: int(value.total) for name, value in step.stats.stats.items() if name in ("mirrored", "same", "leaks")}


def test_a_document_is_kept_and_mirrored_behind_it():
    step = Mirror(SWAPS, 0)
    assert mirror(step, "he", "no", "She and he") == [
        ("he", 0),
        ("she", 0),
        ("no", 1),
        ("She and he", 2),
        ("He and she", 2),
    ]
    assert counts(step) == {"mirrored": 2, "same": 1}


def test_neither_is_for_validation():
    texts = [f"{pronoun} has {n} bones" for n in range(200) for pronoun in ("he", "she")]
    kept = [text for text, _ in mirror(Mirror(SWAPS, 0.3), *texts)]
    val = {text for text in texts if is_validation(text.encode(), 0.3)}
    assert 80 < len(val) < 160
    for text in texts:
        image = SWAPS.swap(text)[0]
        in_training = text not in val and image not in val
        # Each is there as it stands, and as the image of its image, if both are for training.
        assert kept.count(text) == 1 + in_training


def test_an_image_with_a_leak_is_left_out(tmp_path):
    exam = "that evening she told the old captain everything about the storm on the lake"
    (tmp_path / "exam.txt").write_text(exam)
    decontaminate.write_index(decontaminate.find_sequences([tmp_path / "exam.txt"]), tmp_path / "index")
    leaks = decontaminate.decontaminate(tmp_path / "index", tmp_path / "work")
    step = Mirror(SWAPS, 0, leaks)
    document = exam.replace("she", "he")
    assert mirror(step, document, "he") == [(document, 0), ("he", 1), ("she", 1)]
    assert counts(step) == {"leaks": 1, "mirrored": 1}


def test_a_prepared_folder_with_mirror_images(write, tmp_path, capfd):
    """They come after near duplicates are dropped, of which each is one; the numbers add up."""
    long = "the old captain told the harbour master everything about that storm on the northern lake again"
    texts = [f"She knew that {n} of them were lost when {long}" for n in (1, 20, 300)] + ["No.", "No."]
    path, out = write("a.jsonl", [{"text": text} for text in texts]), tmp_path / "out"
    words = [path, "--out", str(out), "--dedup", "minhash", "--val", "0", "--workers", "1", "--tokenizer", "bytes"]
    assert console.run(prepare.main, [*words, "--counterfactual", "default"]) == 0
    report = json.loads((out / "report.json").read_text())
    expected = {"mirrored": 1, "words": 1, "same": 1, "validation": 0, "leaks": 0}
    assert report["counterfactual"] == expected and report["kept"]["documents"] == 3 and report["records"] == 5
    assert "1 document, with 1 words swapped" in capfd.readouterr().out
    assert shards.read_meta(out)["flags"]["counterfactual"] == read_word_swaps().sha256
    text = bytes(np.fromfile(out / "train_000000.bin", "<u2").clip(0, 255).astype(np.uint8))
    assert text.count(b"He knew that") == text.count(b"She knew that") == 1
    swaps = write("swaps.txt", "she <-> they\n")
    assert console.run(prepare.main, [*words, "--counterfactual", swaps]) == 2
    assert "prepared already, with another --counterfactual" in capfd.readouterr().err
