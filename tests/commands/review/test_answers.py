"""The pace of two answers: simulated models of other speeds look alike, and nothing is lost or shown early."""

import asyncio
import itertools

import pytest

from jaxgpt.commands.review.answers import PACE, TICK_S, Answers, Pair, show
from jaxgpt.commands.review.items import Item
from jaxgpt.errors import JaxgptError


class Simulation:
    """Two models that write `speeds` characters a second, in a time that passes while `show` sleeps."""

    def __init__(self, texts, speeds, late=0.0):
        self.texts, self.speeds, self.now, self.late = texts, speeds, 0.0, late
        self.pair = Pair({})
        self.write()

    def write(self):
        for n, (text, speed) in enumerate(zip(self.texts, self.speeds, strict=True)):
            end = int(speed * (self.now + self.late))
            self.pair.texts[n], self.pair.is_done[n] = text[:end], end >= len(text)

    async def sleep(self, seconds):
        self.now += seconds
        self.write()

    def run(self, order=(0, 1)):
        """[(time, characters so far at place 1, and 2)], and both texts."""

        async def read():
            steps, shown = [], ["", ""]
            async for new in show(self.pair, order, lambda: self.now, self.sleep):
                for place in (0, 1):
                    shown[place] += new[place]
                steps.append((round(self.now, 6), *map(len, shown)))
            return steps, shown

        return asyncio.run(read())


@pytest.mark.parametrize("late", [0.0, 0.5, 60.0])
@pytest.mark.parametrize("speeds", [(100, 100), (30, 300), (2000, 50), (5000, 5000)])
@pytest.mark.parametrize("lengths", [(400, 400), (0, 90), (90, 0), (7, 600), (600, 7), (0, 0)])
def test_both_texts_come_in_whole_at_one_pace(lengths, speeds, late):
    texts = ["a" * lengths[0], "b" * lengths[1]]
    for order in ((0, 1), (1, 0)):
        simulation = Simulation(texts, speeds, late)
        steps, shown = simulation.run(order)
        assert shown == [texts[order[0]], texts[order[1]]]
        for (before, *_), (now, *places) in itertools.pairwise([(0.0, 0, 0), *steps]):
            assert places[0] == places[1] or min(places) == len(shown[places.index(min(places))])
            assert now > before and max(places) <= PACE * now + 1
            written = [speed * (now + late) + 0.001 for speed in speeds]
            assert all(place <= written[number] for place, number in zip(places, order, strict=True))


@pytest.mark.parametrize("lengths", [(300, 300), (200, 500), (500, 200)])
def test_the_time_does_not_tell_which_model_is_the_faster_one(lengths):
    """The same texts by models whose speeds are exchanged come at the same times, but for a tick's rounding."""
    texts = ["a" * lengths[0], "b" * lengths[1]]
    one, _ = Simulation(texts, (60, 400)).run()
    two, _ = Simulation(texts, (400, 60)).run()
    for (a, *_), (b, *_) in ((one[len(one) // 2], two[len(two) // 2]), (one[-1], two[-1])):
        assert abs(a - b) < 0.05 * a + 3 * TICK_S, (one[-3:], two[-3:])


def item(id="i"):
    return Item(id, "x.jsonl, line 1", "p", (), "")


def test_an_item_is_written_once_for_all_and_again_only_after_an_error():
    calls = []

    async def write(item, seed, add):
        calls.append(seed)
        await asyncio.sleep(0)
        if len(calls) == 2:
            raise JaxgptError("full")
        add("x")
        return False

    async def ask():
        answers = Answers([write, write], [{}, {}], {}, 3)
        with pytest.raises(JaxgptError, match="full"):
            await answers.pair(item()).wait()
        await asyncio.sleep(0)
        pairs = [answers.pair(item()) for _ in range(3)]
        assert pairs[0] is pairs[1] is pairs[2]
        await asyncio.gather(*(pair.wait() for pair in pairs))
        assert (pairs[0].texts, pairs[0].is_done) == (["x", "x"], [True, True])
        assert len(calls) == 4 and calls[:2] == calls[2:] == pairs[0].origin["seeds"]

    asyncio.run(ask())


def test_a_reader_that_leaves_does_not_end_the_writing():
    async def write(item, seed, add):
        await asyncio.sleep(0.05)
        add("x")
        return False

    async def ask():
        pair = Answers([write, write], [{}, {}], {}, 0).pair(item())
        reader = asyncio.create_task(pair.wait())
        await asyncio.sleep(0.01)
        reader.cancel()
        await pair.wait()
        assert pair.texts == ["x", "x"] and reader.cancelled()

    asyncio.run(ask())
