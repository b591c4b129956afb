"""Sentiment of movie reviews: a small model that has read text, fine-tuned on labels, beside simpler ways.

python benchmarks/sentiment.py --folder /tmp/sentiment

The sentences come with the source distribution of vaderSentiment 3.3.2 (Hutto & Gilbert, 2014), which is downloaded
with pip: 10,604 of movie reviews, rated from -4 to 4 by people, and 13,095 others without a part in the test. A
sentence is positive if its rating is above 0; those rated 0 are left out. The SHA-256 of a text alone decides if it is
to learn from (7 of 10), to choose by (1) or to test (2). For each seed a model reads the text of the first, without
labels and in the order of the hashes, with that of the others of its side; then it is fine-tuned on the labels, and the
checkpoint with the lowest loss on what is there to choose by is tested. The same is done without the reading, and with
adapters alone; and with an encoder of the same size, whose reading is masked language modelling.
"""

import collections
import csv
import dataclasses
import functools
import hashlib
import json
import math
import subprocess
import sys
import tarfile
from pathlib import Path

import tyro

ROOT = Path(__file__).parent.parent
SIZE = ["--n-layer", "2", "--n-head", "4", "--n-embd", "128", "--block-size", "64"]
PRETRAIN = [*SIZE, "--recipe", "gpt3", "--lr", "1e-3", "--B", "32", "--T", "64"]
TUNE = ["--B", "32", "--T", "48", "--epochs", "2"]
STARTS = {  # weights to begin with: flags of their training on text
    "read": [],
    "blank": ["--steps", 1, "--lr", 1e-12],
    "masked": ["--arch", "bert"],
    "blank-encoder": ["--arch", "bert", "--steps", 1, "--lr", 1e-12],
}
WAYS = {  # from which weights, and how
    "read text, then fine-tuned": ("read", ["--lr", "5e-4"]),
    "read text, then adapters of rank 8 alone": (
        "read",
        ["--lr", "3e-3", "--lora", "8", "--lora-on", "attn.c_attn,attn.c_proj,mlp.c_fc,mlp.c_proj"],
    ),
    "fine-tuned from random weights": ("blank", ["--lr", "5e-4"]),
    "an encoder: read masked text, then fine-tuned": ("masked", ["--lr", "5e-4"]),
    "an encoder: fine-tuned from random weights": ("blank-encoder", ["--lr", "5e-4"]),
}


@dataclasses.dataclass
class Flags:
    """Train, fine-tune and compare."""

    folder: Path
    """For the download, the runs and the results."""
    seeds: int = 3
    """How many times, each with another seed."""
    steps: int = 300
    """Of the training on text."""


def main(flags: Flags) -> None:
    folder = flags.folder
    folder.mkdir(parents=True, exist_ok=True)
    reviews, others = sentences(folder)
    train, choose, test = ([each for each in reviews if side(each[0]) == name] for name in ("train", "choose", "test"))
    for name, rows in (("train", train), ("choose", choose), ("test", test)):
        write(folder / f"{name}.csv", rows)
    read = [text for text, _ in train] + [text for text in others if side(text) == "train"]
    text = "\n".join(sorted(read, key=digest))
    (folder / "text.txt").write_text(text + "\n", encoding="utf-8")
    counts = collections.Counter(label for _, label in train)
    print(f"{len(train):,} sentences to learn from, {dict(counts)}; {len(test):,} to test; {len(text):,} characters")
    rows = {"majority class": [accuracy(test, [counts.most_common(1)[0][0]] * len(test))]}
    rows["bag of words, logistic regression"] = [logistic_regression(train, test)]
    for seed in range(flags.seeds):
        run = functools.partial(jaxgpt, "--seed", seed, "--device", "cpu")
        for start, more in STARTS.items():
            words = ["--out", folder / f"{start}-{seed}", *PRETRAIN, "--steps", flags.steps, *more]
            run("train.py", "--data", folder / "text.txt", *words)
        for number, (way, (start, more)) in enumerate(WAYS.items()):
            out = folder / f"tuned-{number}-{seed}"
            where = ["--init-from", folder / f"{start}-{seed}", "--data", folder / "train.csv", "--out", out]
            where += ["--val", folder / "choose.csv", "--eval-every", 50]
            run("-m", "jaxgpt", "train", "--recipe", "classify", *where, *TUNE, *more)
            best = out / "checkpoints" / str(best_step(out))
            (out / "test.json").unlink(missing_ok=True)
            jaxgpt(
                "-m",
                "jaxgpt",
                "evaluate",
                best,
                "--data",
                folder / "test.csv",
                "--json",
                out / "test.json",
            )
            rows.setdefault(way, []).append(json.loads((out / "test.json").read_text()))
            print(f"seed {seed}: {way}: accuracy {rows[way][-1]['accuracy']:.4f}", flush=True)
    table(rows)


def sentences(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """The movie reviews' sentences with their labels, and all others, of product reviews, editorials and tweets."""
    source = folder / "vaderSentiment-3.3.2.tar.gz"
    if not source.exists():
        words = [
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            str(folder),
            "vaderSentiment==3.3.2",
        ]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    with tarfile.open(source) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=inner) as archive:

            def lines(name: str) -> list[list[str]]:
                content = archive.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("utf-8")
                return [line.split("\t") for line in content.splitlines() if line.strip()]

            reviews = [(text.strip(), float(rating)) for _, rating, text in lines("movieReviewSnippets")]
            names = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")
            others = [fields[-1].strip() for name in names for fields in lines(name)]
    return [(text, "positive" if rating > 0 else "negative") for text, rating in reviews if rating], others


def side(text: str) -> str:
    """What a text is for."""
    return ("test", "test", "choose")[digest(text) % 10] if digest(text) % 10 < 3 else "train"


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def jaxgpt(*words: object) -> None:
    """Run `python`, the words in any order but for those that begin with the program."""
    first = next(place for place, word in enumerate(words) if word in ("train.py", "-m"))
    command = [sys.executable, *map(str, (*words[first:], *words[:first]))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def best_step(run: Path) -> int:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return 1 + min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])["step"]


def accuracy(test: list[tuple[str, str]], predicted: list[str]) -> dict[str, float]:
    """As `jaxgpt evaluate` writes it."""
    truth = [label for _, label in test]
    pairs = collections.Counter((a == "positive", b == "positive") for a, b in zip(truth, predicted, strict=True))
    tp, tn, fp, fn = pairs[True, True], pairs[False, False], pairs[False, True], pairs[True, False]
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    mcc = (tp * tn - fp * fn) / root if root else 0.0
    return {"accuracy": (tp + tn) / len(truth), "f1": 2 * tp / (2 * tp + fp + fn), "mcc": mcc}


def logistic_regression(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> dict[str, float]:
    """On which words a sentence has, with scikit-learn's own settings."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    words = CountVectorizer(binary=True)
    model = LogisticRegression(max_iter=1000).fit(
        words.fit_transform([text for text, _ in train]), [label for _, label in train]
    )
    return accuracy(test, model.predict(words.transform([text for text, _ in test])).tolist())


def table(rows: dict[str, list[dict[str, float]]]) -> None:
    print("\n| | accuracy | by seed | F1 | Matthews |\n|---|---|---|---|---|")
    for name, found in rows.items():
        means = {key: sum(each[key] for each in found) / len(found) for key in ("accuracy", "f1", "mcc")}
        by_seed = ", ".join(f"{each['accuracy']:.3f}" for each in found) if len(found) > 1 else ""
        print(f"| {name} | {means['accuracy']:.3f} | {by_seed} | {means['f1']:.3f} | {means['mcc']:.3f} |")


if __name__ == "__main__":
    main(tyro.cli(Flags))
