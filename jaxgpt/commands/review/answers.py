"""The two answers to an item: written once for all annotators, and shown at one pace, whoever wrote which."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from jaxgpt.commands.review.assignment import draw_seeds
from jaxgpt.commands.review.items import Item

# Writes the answer to an item with a seed, gives each new piece of its text to the function, and returns whether the
# answer was cut.
Writer = Callable[[Item, int, Callable[[str], object]], Awaitable[bool]]
PACE = 800  # characters of each answer that are shown in a second, at most
TICK_S = 0.05
ORIGIN = ("models", "seeds", "sampling")  # fields of a judgment that say where the answers come from


@dataclasses.dataclass
class Pair:
    """Two answers, in the order of the models, while and after they are written.

    Attributes:
      origin: the fields ORIGIN of a judgment.
      texts: of both, so far.
      is_done: of each, whether that is all.
      cut: of each, whether it ended because it was too long.
      writing: the task; None: they were read.
    """

    origin: dict[str, Any]
    texts: list[str] = dataclasses.field(default_factory=lambda: ["", ""])
    is_done: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    cut: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    writing: asyncio.Task | None = None

    async def wait(self) -> None:
        """Wait until both are written. Raises what the writers raised."""
        if self.writing:
            await asyncio.shield(self.writing)  # one reader may leave, and others read on

    @property
    def has_failed(self) -> bool:
        writing = self.writing
        return bool(writing and writing.done() and (writing.cancelled() or writing.exception()))


class Answers:
    """The pairs of a review, each of which is written when it is first asked for.

    They depend on the seed and the item alone, so that all annotators, and those of a restarted server, see the same.
    What was judged already is shown again as the judgments have it, whatever the models are now.

    Args:
      writers: of the two answers.
      models: the {"name", "fingerprint"} of each writer's model.
      sampling: the flags.
      judged: judgments.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        models: Sequence[dict[str, str]],
        sampling: dict[str, Any],
        seed: int,
        judged: Iterable[dict[str, Any]] = (),
    ):
        self._writers, self._models, self._sampling, self._seed = writers, [*models], sampling, seed
        self._pairs: dict[str, Pair] = {}
        for record in judged:
            origin = {name: record[name] for name in ORIGIN}
            self._pairs[record["item"]] = Pair(origin, [*record["answers"]], [True, True], [*record["cut"]])

    def pair(self, item: Item) -> Pair:
        """The answers to an item; called in a coroutine. What has failed is written anew."""
        pair = self._pairs.get(item.id)
        if pair is None or pair.has_failed:
            seeds = draw_seeds(self._seed, item.id)
            pair = Pair({"models": self._models, "seeds": [*seeds], "sampling": self._sampling})
            pair.writing = asyncio.ensure_future(self._write(pair, item))
            pair.writing.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # somebody asks, or nobody
            self._pairs[item.id] = pair
        return pair

    async def _write(self, pair: Pair, item: Item) -> None:
        async def write(number: int) -> None:
            def add(piece: str) -> None:
                pair.texts[number] += piece

            pair.cut[number] = await self._writers[number](item, pair.origin["seeds"][number], add)
            pair.is_done[number] = True

        await asyncio.gather(write(0), write(1))


async def show(
    pair: Pair,
    order: Sequence[int],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[list[str]]:
    """What is new of both answers, in this order, from time to time until both are shown.

    As many characters of each are shown as of the other, so that both have the pace of the slower model. When one has
    ended, the other keeps that pace, though it may be the faster model's. So the time tells nothing of who wrote which.
    """
    shown, position, pace, is_slowed = 0, 0.0, float(PACE), False
    began = last = clock()
    while True:
        if pair.has_failed:
            await pair.wait()
        now, lengths = clock(), [*map(len, pair.texts)]
        finished = [length for length, is_done in zip(lengths, pair.is_done, strict=True) if is_done]
        unfinished = [length for length, is_done in zip(lengths, pair.is_done, strict=True) if not is_done]
        limit = min(unfinished) if unfinished else max(lengths)
        if finished and not is_slowed:
            limit = min(limit, *finished)
        position, last = min(limit, position + (now - last) * pace), now  # what a model holds up is not made up for
        if int(position) > shown:
            yield [pair.texts[number][shown : int(position)] for number in order]
            shown = int(position)
        if not unfinished and shown == max(lengths):
            return
        if finished and shown == min(finished) and not is_slowed:
            is_slowed = True
            if shown:
                pace = min(pace, shown / max(now - began, TICK_S))
        await sleep(TICK_S)
