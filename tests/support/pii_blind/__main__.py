"""Recall and false positives of `jaxgpt.prepare.pii` on cases drawn from published formats, as a table.

    python -m tests.support.pii_blind --seed 0 --draws 20

The forms were written from the documents that they name, before their author read a rule of the product or of any
scanner, so that their recall is an estimate and not a mirror. Add forms before you read the rules, and never remove one
because it is missed.

A form is a function of a `random.Random` that gives (text, value): the value is found if spans of its kind cover all
of it. In a look-alike the value is "", and any span at all is a false positive.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jaxgpt.prepare.pii import KINDS, detect
from tests.support.pii_blind.contacts import EMAILS, IPS, PHONES
from tests.support.pii_blind.draw import Form
from tests.support.pii_blind.ids import NATIONAL_IDS
from tests.support.pii_blind.lookalikes import LOOKALIKES
from tests.support.pii_blind.numbers import CARDS, IBAN_FORMS
from tests.support.pii_blind.secrets import SECRETS


class Case(NamedTuple):
    kind: str
    form: str  # "usual", "hard" or "look-alike"
    name: str  # of the form, for --misses
    text: str
    value: str


FORMS: dict[str, dict[str, dict[str, Form]]] = {
    "email": EMAILS,
    "phone": PHONES,
    "ip": IPS,
    "credit_card": CARDS,
    "iban": IBAN_FORMS,
    "national_id": NATIONAL_IDS,
    "secret": SECRETS,
}


def draw_cases(seed: int, draws: int) -> Iterator[Case]:
    """`draws` cases of every form of every kind, and of every look-alike; the same seed gives the same cases."""
    for kind in KINDS:
        for form, named in (FORMS[kind] | {"look-alike": LOOKALIKES[kind]}).items():
            for name, make in named.items():
                rng = random.Random(f"{seed} {kind} {form} {name}")
                for _ in range(draws):
                    yield Case(kind, form, name, *make(rng))


def is_right(case: Case) -> bool:
    """Whether spans of the case's kind cover its value; of a look-alike, whether there is no span at all."""
    spans = detect(case.text)
    if case.form == "look-alike":
        return not spans
    start = case.text.index(case.value)
    covered = {i for span in spans if span.kind == case.kind for i in range(span.start, span.end)}
    return covered >= set(range(start, start + len(case.value)))


def rates(cases: Iterable[Case]) -> dict[tuple[str, str], float]:
    """The fraction of cases that are right, by (kind, form)."""
    right: dict[tuple[str, str], list[bool]] = {}
    for case in cases:
        right.setdefault((case.kind, case.form), []).append(is_right(case))
    return {key: sum(each) / len(each) for key, each in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="recall and false positives on cases drawn from published formats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=20, help="cases per form")
    parser.add_argument("--wrong", action="store_true", help="print one wrong case of each form, too")
    args = parser.parse_args()
    cases = list(draw_cases(args.seed, args.draws))
    if args.wrong:
        wrong = {case[:3]: case for case in cases if not is_right(case)}
        for case in wrong.values():
            print(*case[:3], repr(case.text), detect(case.text))
    total, found = Counter((case.kind, case.form) for case in cases), rates(cases)
    print(f"{'kind':<12} {'usual forms':>18} {'hard forms':>18} {'look-alikes taken':>18}")
    for kind in KINDS:
        row = [f"{found[kind, form]:.2f} of {total[kind, form]:,}" for form in ("usual", "hard")]
        alike = total[kind, "look-alike"]
        taken = f"{alike * (1 - found[kind, 'look-alike']):.0f} of {alike}"
        print(f"{kind:<12} {row[0]:>18} {row[1]:>18} {taken:>18}")


if __name__ == "__main__":
    main()
