"""Hostile texts: what the rules of `prepare` look for, over and over. Time may only grow with a text's length.

python -m tests.support.hostile --rounds 3 --characters 64000

What the rules look for is taken out of their compiled regexes, lists and tables, so a new rule is covered by itself.
"""

import dataclasses
import functools
import itertools
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from html.entities import html5
from pathlib import Path
from re import _constants as ops
from re import _parser as parser
from typing import Any

import tyro
from datatrove.data import Document

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.prepare import decontaminate, dedup, documents, filters, html, pages, pii
from jaxgpt.prepare.pii import secrets

RULES = ("jaxgpt.prepare", "datatrove.pipeline.filters", "datatrove.utils.text", "ftfy")  # modules that have some
GROWTH = 6  # the most that 4 times the length may take
QUICK_S = 0.03  # is never too long
CATEGORIES = {
    ops.CATEGORY_DIGIT: "1",
    ops.CATEGORY_NOT_DIGIT: "a ",
    ops.CATEGORY_SPACE: " \t",
    ops.CATEGORY_NOT_SPACE: "a!",
    ops.CATEGORY_WORD: "a_",
    ops.CATEGORY_NOT_WORD: "! .",
}
# What is in no table of ours: the marks that Unicode sorts, the tags of pages, HTML's entities.
MARKS = [chr(n) for n in (0x301, 0x323, 0x327, 0x345, 0xF73, 0x302E, 0x1D165)]
TAGS = ["<p>", "</p>", "<div>", "</div>", "<b>", "<td>", "<li>", "<br>", "<h2>", "<!--", "<table>", "<ul>", "<span>"]
Rule = Any  # a parsed regex, or a string


# ---- What the rules look for


def find_rules() -> list[Rule]:
    """Every alternative of every regex, and every string of every list and table, in the modules of the rules; and
    the words of Kingfisher's rules, whose syntax is Rust's."""
    names = [name for name in sorted(sys.modules) if name.startswith(RULES)]
    values = [value for name in names for value in vars(sys.modules[name]).values()]
    found: dict[Any, None] = {}
    for value in values:
        if isinstance(value, re.Pattern):
            found[value] = None
        elif isinstance(value, str):
            found[value[:100]] = None
        elif isinstance(value, list | tuple | set | frozenset | dict):
            found |= dict.fromkeys(sorted(each for each in value if isinstance(each, str))[:300])
    rules = [each for each in found if isinstance(each, str)]
    for pattern in (each for each in found if isinstance(each, re.Pattern)):
        text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
        rules += alternatives(parser.parse(text, pattern.flags & re.VERBOSE))
    keys = secrets._scanner().rules
    patterns = " ".join(keys.detail(rule["id"])["pattern"] for rule in keys.metadata())
    rules += sorted(set(re.findall(r"[A-Za-z0-9_.=/-]{3,}", patterns)))
    return [*rules, *MARKS, *TAGS, *("&" + name for name in sorted(html5)[::40])]


def alternatives(tree: Any) -> list[Rule]:
    """The branches of a parsed regex, or the whole, if it has one."""
    return tree[0][1][1] if len(tree) == 1 and tree[0][0] is ops.BRANCH else [tree]


def literals(rule: Rule) -> Iterator[str]:
    """The strings and characters that a rule has, of a range its ends, and of a class such as \\W some."""
    if isinstance(rule, str):
        yield rule
        return
    for is_literal, group in itertools.groupby(rule, lambda pair: pair[0] is ops.LITERAL):
        if is_literal:
            yield "".join(chr(argument) for _, argument in group)
            continue
        for op, argument in group:
            if op is ops.IN:
                yield from _members(argument)
            for each in [argument[1]] if op in (ops.ASSERT, ops.ASSERT_NOT) else _subtrees(op, argument):
                yield from literals(each)


def example(rule: Rule, draw: random.Random) -> list[str]:
    """What a rule looks for, in parts, with one drawn of its branches; lookarounds are ignored."""
    if isinstance(rule, str):
        return [rule]
    parts = []
    for is_literal, group in itertools.groupby(rule, lambda pair: pair[0] is ops.LITERAL):
        if is_literal:
            parts.append("".join(chr(argument) for _, argument in group))
            continue
        for op, argument in group:
            if op is ops.IN:
                negated = argument[0][0] is ops.NEGATE
                parts.append("a" if negated else draw.choice(list(_members(argument))))
            elif op in (ops.ANY, ops.NOT_LITERAL):
                parts.append("a")
            elif subtrees := _subtrees(op, argument):
                parts += example(draw.choice(subtrees), draw) * (max(1, argument[0]) if op in REPEATS else 1)
    return parts


REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def _subtrees(op: Any, argument: Any) -> list[Any]:
    if op is ops.BRANCH:
        return argument[1]
    if op in (*REPEATS, ops.SUBPATTERN):
        return [argument[-1]]
    return [argument] if op is ops.ATOMIC_GROUP else []


def _members(items: Any) -> Iterator[str]:
    for op, argument in items:
        if op is ops.LITERAL:
            yield chr(argument)
        elif op is ops.RANGE:
            yield from map(chr, argument)
        elif op is ops.CATEGORY:
            yield from CATEGORIES[argument]


def hostile_texts(rules: list[Rule], draw: random.Random) -> Iterator[Callable[[int], str]]:
    """For each literal a text of any length: the beginning of an example, what is repeated, and another end."""
    seen: set[str] = set()
    for rule in rules:
        found = sorted(set(literals(rule)) - {""})
        few = draw.sample(found, min(len(found), 12))
        for literal in found:
            if literal in seen and literal not in few:  # a large set of characters: the others come once
                continue
            seen.add(literal)
            parts = example(rule, draw) or [literal]
            others = [*parts, *few, " ", "\n", "x", "!", "1"]
            head = "".join(parts[: draw.randint(0, len(parts))])
            unit = draw.choice([literal, literal, parts[-1], "".join(parts)])
            unit += "".join(draw.choices(others, k=draw.choice([0, 0, 1, 2])))
            yield functools.partial(_repeat, head, unit, draw.choice(["", *others, " x", "\0", "".join(parts)]))


def _repeat(head: str, unit: str, tail: str, length: int) -> str:
    text = head + unit * max(1, (length - len(head) - len(tail)) // len(unit)) + tail
    return text.encode("utf-8", "ignore").decode()  # no reader gives half of a surrogate pair


# ---- What reads them


def targets(folder: Path) -> dict[str, Callable[[str], Any]]:
    """Every step that cleans, judges, compares or shows a text, by its name."""
    leaks = functools.partial(_find_sequences, folder / "exam.jsonl")
    decontaminate.write_index(leaks(""), folder / "index")
    steps = filters.make_steps(tuple(filters.STEPS), folder)
    steps += [filters.filter_by_language(("en",), folder), decontaminate.decontaminate(folder / "index", folder)]
    found: dict[str, Callable[[str], Any]] = {step.name: functools.partial(_pass, step) for step in steps}
    return found | {
        "leaks": leaks,
        "minhash": dedup.near_signatures(folder).get_shingles,
        "pages": lambda text: pages.extract_text(f"<html><body>{text}"),
        "splitting": lambda text: list(documents.split_long_text(text, 1000)),
        "tokens": GPT2_TOKENIZER.encode,
        "pii": pii.detect,
        "report": lambda text: html.render_inspection(text, [], [(text, True)], {}, {"steps": [], "pii": {}}),
    }


def _find_sequences(file: Path, text: str) -> Any:
    file.write_text(json.dumps({"text": [*map(str, range(20)), text]}))
    return decontaminate.find_sequences([file])


def _pass(step: Any, text: str) -> None:
    list(step.run(iter([Document(text, "", metadata={"file": "f", "unit": 0, "line": 1})])))


# ---- How long


def growth(target: Callable[[str], Any], text: Callable[[int], str], characters: int) -> str | None:
    """Where 4 times the length takes more than GROWTH times as long, up to so many characters; None: nowhere."""
    seconds = QUICK_S / GROWTH
    for length in (characters // 64, characters // 16, characters // 4, characters):
        for _ in range(3):  # another process may have taken the core
            took = _seconds(target, text(length))
            if took <= max(QUICK_S, GROWTH * seconds):
                break
            seconds = max(seconds, _seconds(target, text(length // 4)))
        else:
            if _seconds(target, text(2 * length)) > 3 * took:  # or it was a step, where a rule begins to match
                return f"{length:,} characters take {took:.3f} s, a quarter {seconds:.3f} s: {text(80)!r}"
        seconds = took
    return None


def _seconds(target: Callable[[str], Any], text: str) -> float:
    start = time.process_time()
    target(text)
    return time.process_time() - start


@dataclasses.dataclass
class Flags:
    """Give every step of prepare hostile texts, and measure how its time grows."""

    rounds: int = 1
    """How often each literal is tried, with another beginning and end."""
    characters: int = 64_000
    """Of the longest text."""
    only: str = ""
    """A single step."""
    every: int = 1
    """Try only every Nth text."""
    seed: int = 0
    """Of the draws."""


def main(flags: Flags) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        steps = targets(Path(folder))
        rules = find_rules()  # behind the steps, which import their libraries
        for name, target in steps.items():
            if flags.only not in ("", name):
                continue
            draw, start, count, slow = random.Random(flags.seed), time.perf_counter(), 0, 0
            texts = itertools.chain.from_iterable(hostile_texts(rules, draw) for _ in range(flags.rounds))
            for text in itertools.islice(texts, 0, None, flags.every):
                count += 1
                if found := growth(target, text, flags.characters):
                    slow += 1
                    print(f"  {found}", flush=True)
            failed += slow
            took = time.perf_counter() - start
            print(f"{name:18} {count:6,} texts, {slow:4,} of them in too long a time; {took:.0f} s", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))
