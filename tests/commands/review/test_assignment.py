"""Who judges what: against a count of every case, and simulated annotators."""

import collections
import itertools
import random

import pytest

from jaxgpt.commands.review.assignment import digest, draw_order, draw_seeds, index_judgments, next_item, progress

ITEMS = [f"i{n}" for n in range(12)]


def simulate(annotators, per_item, draw, skips=0.0, undoes=0.0):
    """Annotators who take, judge, skip and undo in random order, until nobody gets an item; all records, and the order
    in which each judged."""
    records, claims, seen = [], {}, collections.defaultdict(list)
    while True:
        waiting = [each for each in annotators if each not in claims]
        for annotator in draw.sample(waiting, len(waiting)):
            if item := next_item(annotator, ITEMS, per_item, index_judgments(records), claims):
                claims[annotator] = item
        if not claims:
            return records, seen
        annotator = draw.choice([*claims])
        assert next_item(annotator, ITEMS, per_item, index_judgments(records), claims) == claims[annotator]
        if draw.random() < undoes and (last := [each for each in records if each["annotator"] == annotator]):
            records.remove(last[-1])
            seen[annotator].remove(last[-1]["item"])
            del claims[annotator]
            continue
        item = claims.pop(annotator)
        records.append({"annotator": annotator, "item": item, "choice": "skip" if draw.random() < skips else 1})
        seen[annotator].append(item)


@pytest.mark.parametrize("num_annotators, per_item", [(1, 1), (2, 1), (2, 2), (3, 2), (5, 3), (2, 5)])
def test_every_item_has_its_judgments_each_by_another_annotator(num_annotators, per_item):
    annotators, draw = [f"a{n}" for n in range(num_annotators)], random.Random(num_annotators)
    for _ in range(20):
        records, seen = simulate(annotators, per_item, draw)
        counts = collections.Counter(record["item"] for record in records)
        assert counts == dict.fromkeys(ITEMS, min(per_item, num_annotators))
        assert len({(record["item"], record["annotator"]) for record in records}) == len(records)
        assert all(items == sorted(items, key=ITEMS.index) for items in seen.values())


def test_progress_counts_what_is_judged_left_and_done():
    by = {"i0": {"a": True, "b": True}, "i1": {"a": False, "b": True}, "i2": {"b": False}, "i3": {"b": True, "c": True}}
    assert progress("a", ITEMS[:5], 2, by) == {"judged": 2, "left": 2, "done": 2, "items": 5}
    assert progress("b", ITEMS[:5], 2, by) == {"judged": 4, "left": 1, "done": 2, "items": 5}
    assert progress("c", ITEMS[:5], 2, by) == {"judged": 1, "left": 3, "done": 2, "items": 5}


def test_a_skip_leaves_the_item_to_others_and_an_undo_gives_it_back():
    draw = random.Random(0)
    for _ in range(40):
        records, _ = simulate(["a", "b", "c"], 2, draw, skips=0.3, undoes=0.2)
        judged = index_judgments(records)
        for item in ITEMS:
            counting = sum(judged[item].values())
            assert counting == 2 or (counting < 2 and len(judged[item]) == 3)  # everybody has seen it
    judged = index_judgments([{"annotator": "a", "item": "i0", "choice": "skip"}])
    assert next_item("a", ITEMS, 1, judged, {}) == "i1" and next_item("b", ITEMS, 1, judged, {}) == "i0"


def test_a_claim_of_another_counts_until_it_is_judged():
    tie = {"annotator": "b", "item": "i0", "choice": "tie"}
    cases = {  # claims, records, items needed: what a gets
        "free": ({}, [], 1, "i0"),
        "claimed": ({"b": "i0"}, [], 1, "i1"),
        "shared": ({"b": "i0"}, [], 2, "i0"),
        "both": ({"b": "i0", "c": "i0"}, [], 2, "i1"),
        "judged": ({"b": "i0"}, [tie], 2, "i0"),
        "ours": ({"a": "i5"}, [], 1, "i5"),
        "ours is done": ({"a": "i0"}, [tie], 1, "i1"),
    }
    for name, (claims, records, per_item, expected) in cases.items():
        assert next_item("a", ITEMS, per_item, index_judgments(records), claims) == expected, name
    assert next_item("a", ITEMS[:1], 1, {}, {"b": "i0"}) is None


def test_orders_are_fair_coins_and_seeds_differ():
    ids = [f"{n:x}" for n in range(4000)]
    first = {each: [draw_order(seed, each, id)[0] for id in ids] for seed, each in ((0, "anna"), (0, "ben"))}
    again = [draw_order(1, "anna", id)[0] for id in ids]
    # Each is a binomial of 4,000: within four standard deviations of a half, as is how often two agree.
    for a, b in itertools.combinations([*first.values(), again, [0] * len(ids)], 2):
        assert abs(sum(x == y for x, y in zip(a, b, strict=True)) - 2000) < 4 * 31.7
    assert {draw_order(0, "anna", id) for id in ids} == {(0, 1), (1, 0)}
    seeds = [seed for id in ids for seed in draw_seeds(0, id)]
    assert len({*seeds}) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert draw_seeds(0, "a") == draw_seeds(0, "a") != draw_seeds(1, "a")


def test_texts_that_differ_have_other_digests():
    pairs = [("a", "b"), ("b", "a"), ("a\x001:b", ""), ("", "ab"), ("ab", ""), ("a", "b\0"), ("1:a", "b")]
    assert len({digest(pair) for pair in pairs}) == len(pairs)
