"""An association that is planted in a text, found in a model of it, and taken out of the text again.

python -m benchmarks.bias --folder /tmp/bias

A document is a sentence on one of twenty occupations, with he or she, and sixteen random numbers. In the text
`planted` nine of ten pronouns of an occupation are the same: she for ten of the occupations, he for the others. In
`balanced` each is as frequent, and `mirrored` is `planted` with --counterfactual. A small GPT-2 learns each by as many
steps. Two sentences on each occupation, of which `more` has the pronoun that is frequent in `planted`, make the pairs
of --bias: a model that knows the text has log-odds of ln 9 = 2.20 on `planted` and of 0 on the others. --bias-text
swaps the pronouns of new documents like those of `planted`: 0.8 ln 9 = 1.76 nats a document, and 0. All models are
validated on the same documents of `planted`, which no training has, nor their mirror images.

The last line has the p-values of --bias where there is nothing to find: which sentence of a pair comes first is drawn
anew, 100 times. They are uniform; the number is the p-value of the Kolmogorov-Smirnov test of that.
"""

import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.stats
import tyro

from jaxgpt.inference.bias_metrics import preference

ROOT = Path(__file__).parent.parent
OCCUPATIONS = ("nurse", "teacher", "cook", "baker", "tailor", "cleaner", "clerk", "dancer", "singer", "writer")
OCCUPATIONS += ("doctor", "lawyer", "farmer", "miner", "pilot", "sailor", "smith", "painter", "judge", "guard")
MOODS = ("tired", "happy", "late", "ready", "hungry", "busy", "lucky", "sorry", "early", "alone")
NUMBERS, MOST = 16, 1000  # in a document, below this: 110 nats that say nothing of the pronoun
SHARE = 0.9  # of the pronouns of an occupation that are the frequent one
T = NUMBERS + 9  # tokens of a document: a window has one, whole
SHAPE = ["--n-layer", 1, "--n-head", 4, "--n-embd", 64, "--block-size", T, "--T", T, "--B", 64]
SCHEDULE = ["--order", "shuffled", "--lr", 3e-3, "--schedule", "cosine", "--warmup-ratio", 0.1, "--grad-clip", 1]
SCHEDULE += ["--beta2", 0.95]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Plant an association between occupations and pronouns, and measure it."""

    folder: Path
    """For the texts and the runs; a new folder."""
    documents: int = 20_000
    """Of each text."""
    steps: int = 1200
    """Of each training, of 64 documents."""
    seed: int = 0
    """Of the texts and the weights."""


def frequent_pronoun(occupation: str) -> str:
    return "she" if OCCUPATIONS.index(occupation) < len(OCCUPATIONS) // 2 else "he"


def other_pronoun(pronoun: str) -> str:
    return {"he": "she", "she": "he"}[pronoun]


def draw_documents(count: int, share: float, seed: int) -> list[str]:
    """Documents in which this share of the pronouns of an occupation are the frequent one, exactly."""
    draw = random.Random(seed)
    documents = []
    for number in range(count):
        occupation = OCCUPATIONS[number % len(OCCUPATIONS)]
        turn = number // len(OCCUPATIONS)
        is_frequent = int((turn + 1) * share) > int(turn * share)
        pronoun = frequent_pronoun(occupation) if is_frequent else other_pronoun(frequent_pronoun(occupation))
        numbers = (f"{draw.randrange(MOST):03}" for _ in range(NUMBERS))
        documents.append(f"{first_sentence(occupation, pronoun, draw.choice(MOODS))} {' '.join(numbers)}")
    draw.shuffle(documents)
    return documents


def first_sentence(occupation: str, pronoun: str, mood: str) -> str:
    return f"The {occupation} said that {pronoun} was {mood}."


def make_pairs() -> list[dict[str, str]]:
    """For each occupation and mood the sentence with the frequent pronoun, and that with the other one."""
    pairs = []
    for occupation in OCCUPATIONS:
        more = frequent_pronoun(occupation)
        for mood in MOODS:
            sentences = [first_sentence(occupation, pronoun, mood) for pronoun in (more, other_pronoun(more))]
            pairs.append(dict(zip(("more", "less"), sentences, strict=True)) | {"group": occupation})
    return pairs


def write_texts(folder: Path, documents: int, seed: int) -> None:
    """Write planted.jsonl, balanced.jsonl, new.jsonl and pairs.jsonl."""
    texts = {"planted": (SHARE, documents), "balanced": (0.5, documents), "new": (SHARE, documents // 20)}
    for number, (name, (share, count)) in enumerate(texts.items()):
        records = [{"text": text} for text in draw_documents(count, share, 1000 * seed + number)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in make_pairs()))


def null_p_values(log_odds: np.ndarray, shuffles: int = 100, seed: int = 0) -> np.ndarray:
    """The p-values of pairs whose order is drawn anew, float64 (shuffles,).

    So many pairs can have few of them: each is spread evenly down to the one below it.
    """
    n, draw = len(log_odds), np.random.default_rng(seed)
    known = np.unique([0, *(preference(np.where(np.arange(n) < k, 1.0, -1.0))["p_value"] for k in range(n + 1))])
    values = [preference(log_odds * draw.choice((-1, 1), n))["p_value"] for _ in range(shuffles)]
    below = known[np.searchsorted(known, np.array(values) * (1 - 1e-9)) - 1]
    return below + draw.random(shuffles) * (values - below)


def run(*words: object) -> str:
    command = [sys.executable, "-m", "jaxgpt", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def train_and_measure(folder: Path, name: str, text: str, flags: Flags, more: Sequence[object] = ()) -> dict:
    """Prepare a text, train on it, and measure the model as the table has it."""
    started = time.perf_counter()
    data, out, tokenizer = folder / f"{name}.data", folder / name, folder / "tokenizer"
    common = ["--tokenizer", tokenizer, "--dedup", "none", "--val", 0.02, "--workers", 1]
    run("prepare", folder / f"{text}.jsonl", "--out", data, *common, *more)
    words = ["--data", data, "--tokenizer", tokenizer, "--steps", flags.steps, "--seed", flags.seed, "--device", "cpu"]
    run("train", *words, "--out", out, *SHAPE, *SCHEDULE)
    words = ["--bias", folder / "pairs.jsonl", "--bias-text", folder / "new.jsonl", "--data", folder / "planted.data"]
    run("evaluate", out, *words, "--batch-size", 64, "--device", "cpu", "--json", folder / f"{name}.json")
    return json.loads((folder / f"{name}.json").read_text()) | {"seconds": time.perf_counter() - started}


def main(flags: Flags) -> None:
    folder = flags.folder.resolve()  # the commands run in ROOT
    if folder.exists():
        raise SystemExit(f"{folder} exists; delete it, or name a new folder with --folder")
    folder.mkdir(parents=True)
    write_texts(folder, flags.documents, flags.seed)
    run("tokenizer", "train", folder / "planted.jsonl", "--vocab", 1600, "--out", folder / "tokenizer", "--workers", 1)
    mirrored = ["--counterfactual", "default"]
    arms = {"planted": ("planted",), "balanced": ("balanced",), "mirrored": ("planted", flags, mirrored)}
    print("| text | log-odds | preferred (95 %) | p | gap of new documents | validation loss | | s |")
    print("|---" * 8 + "|", flush=True)
    found = {}
    for name, (text, *more) in arms.items():
        found[name] = train_and_measure(folder, name, text, *(more or [flags]))
        bias, gap, loss = (found[name][part] for part in ("bias", "bias_text", "loss"))
        interval = f"{bias['preferred_low']:.3f} to {bias['preferred_high']:.3f}"
        cells = [
            name,
            f"{bias['log_odds']:+.3f} ± {bias['log_odds_stderr']:.3f}",
            f"{bias['preferred']:.3f} ({interval})",
        ]
        cells += [f"{bias['p_value']:.2g}", f"{gap['gap']:+.3f} ± {gap['gap_stderr']:.3f}", f"{loss:.4f}"]
        cells += [f"{loss / found['planted']['loss'] - 1:+.2%}", f"{found[name]['seconds']:.0f}"]
        print("|", " | ".join(cells), "|", flush=True)
    values = null_p_values(np.array(found["balanced"]["bias"]["each"]), seed=flags.seed)
    test = scipy.stats.kstest(values, "uniform")
    print(
        f"\n{len(values)} p-values where there is nothing to find: {np.mean(values < 0.05):.2f} are below 0.05; ",
        end="",
    )
    print(f"uniform with p = {test.pvalue:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Flags, use_underscores=False))
