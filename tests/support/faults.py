"""A corpus whose faults are known, to hold the preparation of data to: JSONL, CSV and text files of 650 documents.

`write` makes it in a folder and returns the Truth. Sound documents stand among the faulty ones, and beside each fault
something that only looks like it. The .txt files hold one document each.
"""

import csv
import io
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from jaxgpt.prepare.pii import KINDS, Span
from tests.support.faulty_texts import (
    FOOT,
    FOREIGN,
    MENTIONS,
    MENUS,
    ODD,
    dialogue,
    low_quality,
    minutes,
    poem,
    recipe,
    vacancy,
    with_controls,
)
from tests.support.pii_blind.__main__ import draw_cases
from tests.support.prose import NOUNS, document, paragraph, sentence


@dataclass(frozen=True)
class Truth:
    """What is wrong with which document. A document is known by its id, which is the name of a .txt file."""

    files: list[str] = field(default_factory=list)
    """The files of documents, in the order of their names; broken.jsonl is one of them, eval.jsonl is not."""
    where: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Of each id: the file, and the line on which its record begins, from 1."""
    texts: dict[str, str] = field(default_factory=dict)
    """Each document as it is written."""
    clean: list[str] = field(default_factory=list)
    """Sound documents with nothing to be done."""
    exact: list[list[str]] = field(default_factory=list)
    """Groups of two or three documents with one text, in one file or in several: one of each group is to stay."""
    near: list[list[str]] = field(default_factory=list)
    """Groups of two to four documents of about 170 words that differ in one or two words, or in a sentence at the end
    or the beginning; any two share more than 0.7 of their 5-grams of words (Jaccard). One of each group is to stay."""
    templated: list[list[str]] = field(default_factory=list)
    """Groups with the same headings and phrases and different contents (Jaccard below 0.5): all are to stay."""
    pii: dict[str, Span] = field(default_factory=dict)
    """Where in a document's text personal data stands, in a usual form of tests/support/pii_blind."""
    lookalikes: list[str] = field(default_factory=list)
    """Documents with a look-alike of tests/support/pii_blind, which is no personal data: they stay as they are."""
    mojibake: dict[str, str] = field(default_factory=dict)
    """The right text of documents whose UTF-8, or one line of it, was read as cp1252 or latin-1, once or twice."""
    odd: list[str] = field(default_factory=list)
    """Right texts with accents, quotes, emoji and other scripts: they stay as they are."""
    control: dict[str, str] = field(default_factory=dict)
    """The right text of documents with control characters (C0 without tab and line ends, and DEL) within words."""
    boilerplate: dict[str, list[str]] = field(default_factory=dict)
    """The lines that must go from otherwise sound documents: menus, cookie notes, shares, rights. The rest stays."""
    mentions: dict[str, str] = field(default_factory=dict)
    """Sound documents with a line of prose about cookies, rights or subscriptions: that line, which stays."""
    low_quality: dict[str, str] = field(default_factory=dict)
    """Documents that must go, and why: repeated lines or words, keyboard noise, symbols, numbers, one endless word."""
    unusual: list[str] = field(default_factory=list)
    """Dialogues, recipes with a list and poems with a refrain: sound, and to stay."""
    eval_file: str = "eval.jsonl"
    """{"prompt", "completion"} of 40 examples of an evaluation."""
    leaks: dict[str, str] = field(default_factory=dict)
    """Documents with 13 to 20 words in a row of a prompt or of a completion: those words. A line may end in them."""
    leaks_recased: dict[str, str] = field(default_factory=dict)
    """The same in small letters and without punctuation: the words as they stand in the document."""
    short_overlaps: dict[str, str] = field(default_factory=dict)
    """Documents with 8 words in a row of an example, and no more: the words. They are no leaks."""
    empty: list[str] = field(default_factory=list)
    """Documents without a character, or of blanks alone; one is a .txt file of no bytes."""
    huge: dict[str, str] = field(default_factory=dict)
    """"prose": 3 MB that are sound and stay. "one word": 300 KB without a blank, which is in `low_quality` too."""
    broken: dict[tuple[str, int], str] = field(default_factory=dict)
    """(file, line) that is no document, and why. They all stand in broken.jsonl, between sound documents."""
    blank: list[tuple[str, int]] = field(default_factory=list)
    """Blank lines in JSONL: no documents, and no faults."""

    def add(self, text: str) -> str:
        """The id of a new document."""
        self.texts[name := f"d{len(self.texts):04}"] = text
        return name


def rates(found: Iterable, true: Iterable) -> tuple[float, float]:
    """Precision and recall of what was found; each is 1 where there is nothing to be wrong about."""
    found, true = set(found), set(true)
    right = len(found & true)
    return right / len(found) if found else 1.0, right / len(true) if true else 1.0


def mended(truth: Truth) -> dict[str, str]:
    """The right text of each document that is to stay and has one right text: not of those with a copy, whose choice
    is free, nor of leaks."""
    same = [*truth.clean, *truth.lookalikes, *truth.odd, *truth.mentions, *truth.unusual, *truth.short_overlaps]
    same += [name for group in truth.templated for name in group]
    same += [name for name, why in truth.huge.items() if why == "prose"]
    right = {name: truth.texts[name] for name in same} | truth.mojibake | truth.control
    for name, (kind, start, end) in truth.pii.items():
        right[name] = f"{truth.texts[name][:start]}<{kind.upper()}>{truth.texts[name][end:]}"
    for name, lines in truth.boilerplate.items():
        right[name] = "\n".join(line for line in truth.texts[name].split("\n") if line not in lines)
    return right


def write(folder: Path, seed: int = 0) -> Truth:
    """Write the corpus into an existing, empty folder; the same files, byte for byte, for the same seed."""
    rng = random.Random(seed)
    truth = Truth()
    truth.clean.extend(truth.add(document(rng, rng.randint(90, 260))) for _ in range(170))
    add_duplicates(rng, truth)
    add_personal(rng, truth)
    add_damaged(rng, truth)
    add_lines(rng, truth)
    add_poor(rng, truth)
    add_leaks(rng, truth, folder / truth.eval_file)
    lay_out(rng, truth, folder)
    return truth


# ---- The faults


def add_duplicates(rng: random.Random, truth: Truth) -> None:
    for n in range(22):
        text = document(rng)
        truth.exact.append([truth.add(text) for _ in range(2 + n % 2)])
    for n in range(26):
        text = document(rng)
        versions = [text, one_or_two_words(rng, text)]
        if n % 3 == 0:
            versions.append(f"{text} {sentence(rng, 'city')}")
        if n % 6 == 0:
            versions.append(f"{sentence(rng, 'farm')} {text}")
        truth.near.append([truth.add(version) for version in versions])
    for form in (minutes, vacancy):
        truth.templated.append([truth.add(form(rng)) for _ in range(10)])


def one_or_two_words(rng: random.Random, text: str) -> str:
    """The text with one or two of its words replaced by others."""
    words = text.split(" ")
    places = [n for n, word in enumerate(words) if word.isalpha() and word.islower()]
    for n in rng.sample(places, rng.randint(1, 2)):
        words[n] = rng.choice([noun for noun in NOUNS["court"] + NOUNS["trade"] if noun != words[n]])
    return " ".join(words)


def add_personal(rng: random.Random, truth: Truth) -> None:
    """Ten documents with personal data of each kind in their middle, and as many with something that looks like it."""
    drawn = list(draw_cases(rng.randrange(10**6), 5))
    for kind in KINDS:
        for form in ("usual", "look-alike"):
            for case in rng.sample([case for case in drawn if (case.kind, case.form) == (kind, form)], 10):
                before, after = document(rng, 60), document(rng, 60)
                name = truth.add(f"{before}\n\n{case.text}\n\n{after}")
                if form == "usual":
                    start = len(before) + 2 + case.text.index(case.value)
                    truth.pii[name] = Span(kind, start, start + len(case.value))
                else:
                    truth.lookalikes.append(name)


def add_damaged(rng: random.Random, truth: Truth) -> None:
    """Mojibake, control characters, and texts that are right."""
    twice_too = [text for text in FOREIGN if "\x85" not in misread(misread(text))]  # which would end a line
    for n in range(32):
        pool, lines = twice_too if n % 8 == 4 else FOREIGN, [paragraph(rng, "kitchen", 50)]
        lines += [f"{rng.choice(pool)} {paragraph(rng, topic, 40)} {rng.choice(pool)}" for topic in ("city", "lab")]
        damaged = [misread(line) for line in lines]
        if n % 8 == 1:  # one line alone was misread, as where pages were pasted together
            damaged[2] = lines[2]
        if n % 8 == 4:
            damaged = [misread(line) for line in damaged]
        truth.mojibake[truth.add("\n\n".join(damaged))] = "\n\n".join(lines)
    for text in ODD * 2:
        truth.odd.append(truth.add(f"{paragraph(rng, 'music', 50)}\n\n{text}\n\n{paragraph(rng, 'sea', 40)}"))
    for _ in range(14):
        text = document(rng)
        truth.control[truth.add(with_controls(rng, text))] = text


def misread(text: str) -> str:
    """UTF-8 read as cp1252, or as latin-1 where cp1252 has no character for a byte."""
    try:
        return text.encode().decode("cp1252")
    except UnicodeDecodeError:
        return text.encode().decode("latin-1")


def add_lines(rng: random.Random, truth: Truth) -> None:
    """Boilerplate around sound text, and sound text about the same things."""
    for _ in range(42):
        head, foot = rng.sample(MENUS, rng.randint(0, 2)), rng.sample(FOOT, rng.randint(1, 4))
        middle = document(rng, rng.randint(120, 200)).split("\n\n")
        inside = [rng.choice(FOOT)] if rng.random() < 0.3 else []
        lines = head + middle[:1] + inside + middle[1:] + foot
        truth.boilerplate[truth.add("\n".join(lines))] = head + inside + foot
    for line in MENTIONS:
        truth.mentions[truth.add(f"{paragraph(rng, 'trade', 60)}\n{line}\n{paragraph(rng, 'court', 60)}")] = line


def add_poor(rng: random.Random, truth: Truth) -> None:
    """What is not worth reading, what only looks so, what is empty and what is huge."""
    for n in range(25):
        why, text = low_quality(rng, n)
        truth.low_quality[truth.add(text)] = why
    truth.unusual.extend(truth.add(form(rng)) for form in (dialogue, recipe, poem) for _ in range(3))
    truth.empty.extend(truth.add(text) for text in ("", "", "   ", "\n\t \n", "\u00a0\u3000 "))
    truth.huge[truth.add("\n\n".join(document(rng, 180) for _ in range(3000)))] = "prose"
    word = truth.add("".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=300_000)))
    truth.huge[word] = truth.low_quality[word] = "one word"


def add_leaks(rng: random.Random, truth: Truth, path: Path) -> None:
    """The examples of an evaluation, and documents with words of theirs."""
    examples = [
        {
            "prompt": paragraph(rng, "school", 30) + " What happened then?",
            "completion": " " + paragraph(rng, "health", 22),
        }
        for _ in range(40)
    ]
    path.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8", newline="")

    def run(least: int, most: int) -> str:
        words = rng.choice(examples)[rng.choice(["prompt", "completion"])].split()
        length = rng.randint(least, min(most, len(words)))
        start = rng.randint(0, len(words) - length)
        return " ".join(words[start : start + length])

    def among(words: str) -> str:
        return truth.add(
            f"{document(rng, 70)} {rng.choice(['Yet', 'Meanwhile', 'Nearby'])} {words} you see. {document(rng, 70)}"
        )

    for n in range(18):
        words = run(13, 20)
        truth.leaks[among(words.replace(" ", "\n", 1) if n % 4 == 0 else words)] = words  # a line may end within it
    for _ in range(6):
        words = "".join(c for c in run(13, 20).lower() if c.isalnum() or c == " ")
        truth.leaks_recased[among(words)] = words
    for _ in range(12):
        words = run(8, 8)
        truth.short_overlaps[among(words)] = words


# ---- The files


def lay_out(rng: random.Random, truth: Truth, folder: Path) -> None:
    """Deal the documents out to files, and write these."""
    special = {*truth.control, *truth.empty, *truth.huge}  # what a table can't hold, or not well
    names = list(truth.texts)
    rng.shuffle(names)
    plain = [name for name in names if name not in special]
    empty = truth.empty[0]
    alone, rows, sound = plain[:14], plain[14:84], [truth.clean[-1 - n] for n in range(9)]
    alone, rows = ([name for name in group if name not in sound] for group in (alone, rows))
    taken = {*alone, *rows, *sound, empty}
    rest = [name for name in names if name not in taken]
    third = len(rest) // 3
    parts = {"a.jsonl": rest[:third], "b.jsonl": rest[third : 2 * third], "c.jsonl": rest[2 * third :]}
    for file, part in parts.items():
        lines = [record(rng, name, truth.texts[name]) for name in part]
        for name, number in zip(part, range(1, len(part) + 1), strict=True):
            truth.where[name] = (file, number)
        (folder / file).write_bytes(b"".join(line + b"\n" for line in lines))
    write_table(truth, folder / "table.csv", rows)
    for name in (*alone, empty):
        (folder / f"{name}.txt").write_text(truth.texts[name], encoding="utf-8", newline="")
        truth.where[name] = (f"{name}.txt", 1)
    write_broken(rng, truth, folder / "broken.jsonl", sound)
    truth.files.extend(sorted({file for file, _ in truth.where.values()}))


def record(rng: random.Random, name: str, text: str) -> bytes:
    """A line of JSONL without its end: with characters as they are or escaped, and with other fields at times."""
    values = {"id": name, "text": text} | ({"source": "web", "n": rng.randint(1, 99)} if rng.random() < 0.3 else {})
    return json.dumps(values, ensure_ascii=rng.random() < 0.2).encode()


def write_table(truth: Truth, path: Path, names: list[str]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "text"])
    for name in names:
        truth.where[name] = (path.name, out.getvalue().count("\n") + 1)
        writer.writerow([name, truth.texts[name]])
    path.write_text(out.getvalue(), encoding="utf-8", newline="")


def write_broken(rng: random.Random, truth: Truth, path: Path, sound: list[str]) -> None:
    """Sound documents with a broken line behind each; the last is cut off in its middle and has no line end."""
    broken = [
        ("not JSON", b'{"id": "x1", "text": "an open string}'),
        ("not UTF-8", '{"id": "x2", "text": "Café au lait"}'.encode("latin-1")),
        ('no "text" field', b'{"id": "x3", "body": "A text under another name."}'),
        ("text not a string", b'{"id": "x4", "text": ["A", "list"]}'),
        ("text not a string", b'{"id": "x5", "text": null}'),
        ("an array", b'["x6", "An array of values."]'),
        ("a lone surrogate", b'{"id": "x7", "text": "half \\ud83d of a pair"}'),
        ("blank", b"  "),
        ("truncated", record(rng, "x8", document(rng))[:300]),
    ]
    lines = []
    for name, (why, line) in zip(sound, broken, strict=True):
        truth.where[name] = (path.name, len(lines) + 1)
        here = (path.name, len(lines) + 2)
        lines += [record(rng, name, truth.texts[name]), line]
        if why == "blank":
            truth.blank.append(here)
        else:
            truth.broken[here] = why
    path.write_bytes(b"\n".join(lines))
