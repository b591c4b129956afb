"""A model that continues texts for many clients at once: one thread decodes, any number of asyncio tasks read.

This is continuous batching (Yu et al., 2022, "Orca: A Distributed Serving System for Transformer-Based Generative
Models"), over `complete.Rows`. There are two programs: one text alone, which a single client gets at full speed, and
`batch_size` texts. A prompt is read in the small one, in pieces, between which the others are continued; then its row
of the cache is copied into the large one, and back when it is the last that is left.
"""

import asyncio
import collections
import contextlib
import dataclasses
import threading
import time

import numpy as np

from jaxgpt.errors import UsageError
from jaxgpt.inference.complete import Rows, unstack
from jaxgpt.inference.decoder import PREFILL
from jaxgpt.inference.sampling import make_sampling_params
from jaxgpt.models.base import Generative
from jaxgpt.serving.token_stream import (
    DeadlineError,
    EngineError,
    GenerationRequest,
    Job,
    QueueFullError,
    TokenStream,
    check_request,
)

PIECE = 4 * PREFILL  # tokens of a prompt that are read before the other texts are continued
CHUNK_S = 0.03  # seconds between two looks at the clients, as far as MAX_CHUNK allows
MAX_CHUNK = 32  # tokens of each text between two looks


@dataclasses.dataclass(frozen=True)
class EngineStats:
    """What an engine does, and did since it was made.

    Attributes:
      running, waiting: requests now.
      finished, cancelled, timed_out, failed: how requests ended so far; refused: those that found the queue full.
      prompt_tokens, new_tokens: read and written so far, without stop tokens.
      busy_seconds: how long the thread read and wrote.
    """

    running: int = 0
    waiting: int = 0
    finished: int = 0
    cancelled: int = 0
    timed_out: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    busy_seconds: float = 0.0


class _Group:
    """Texts that are decoded together, each for a job.

    Attributes:
      jobs: each row's; None: the row is free.
      rows: None: they are allocated when they are needed.
      step_s, write_s: seconds for a token of each text and for the newest chunk; at first nobody knows.
    """

    def __init__(self, B: int):
        self.jobs: list[Job | None] = [None] * B
        self.rows: Rows | None = None
        self.step_s, self.write_s = float("inf"), 0.0

    def taken_rows(self) -> list[int]:
        return [row for row, job in enumerate(self.jobs) if job]

    def clear(self) -> list[Job]:
        """Forget all texts; returns their jobs."""
        jobs, self.jobs, self.rows = self.jobs, [None] * len(self.jobs), None
        return [job for job in jobs if job]


class Engine:
    """A model, and the thread in which it continues texts; a text is the same in any company.

    Args:
      model: it may be freed afterwards.
      batch_size: texts at once.
      max_waiting: requests beyond those, which begin in the order in which they came; the next is refused.
    """

    def __init__(self, model: Generative, batch_size: int = 8, max_waiting: int = 64):
        if batch_size < 1 or max_waiting < 0:
            raise UsageError(f"batch_size {batch_size} must be at least 1, max_waiting {max_waiting} at least 0")
        self.batch_size, self.max_waiting, self.context = batch_size, max_waiting, model.config.block_size
        self._vocab_size, self._model = model.config.vocab_size, unstack(model)
        self._small, self._large = _Group(1), _Group(batch_size if batch_size > 1 else 0)
        self._outbox: list[tuple[Job, object]] = []  # what clients get at the end of a turn
        self._condition = threading.Condition()  # its lock guards the next four
        self._is_closed, self._waiting, self._running = False, collections.deque[Job](), 0
        self._stats = EngineStats()
        self._compile()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stream(self, request: GenerationRequest) -> TokenStream:
        """Begin a request; called in a coroutine, whose loop the returned iterator belongs to.

        Raises:
          QueueFullError: the queue is full.
          UsageError: the model can't do what the request asks for.
          EngineError: the engine was closed.
        """
        check_request(request, self.context, self._vocab_size)
        deadline = float("inf") if request.deadline_s is None else time.monotonic() + request.deadline_s
        job = Job(request, asyncio.get_running_loop(), deadline)
        with self._condition:
            if self._is_closed:
                raise EngineError("the server is stopping")
            if self._running + len(self._waiting) >= self.batch_size + self.max_waiting:
                self._count(refused=1)
                counts = f"{self._running} requests are being answered and {len(self._waiting)} are waiting"
                raise QueueFullError(f"{counts}, and there is no room for more; try again later")
            self._waiting.append(job)
            self._condition.notify()
        return TokenStream(request, job)

    @property
    def stats(self) -> EngineStats:
        """The counters, now."""
        with self._condition:
            return dataclasses.replace(self._stats, running=self._running, waiting=len(self._waiting))

    def close(self) -> None:
        """Stop the thread; requests that have not ended get an EngineError."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        self._thread.join()

    def _rows(self, group: _Group) -> Rows:
        if group.rows is None:
            group.rows = Rows(self._model, len(group.jobs), self.context)
        return group.rows

    def _compile(self) -> None:
        """Compile all programs now, so that the first request is not late, and that a lack of memory is seen."""
        small = self._rows(self._small)
        small.start(0, [0], np.zeros(2, np.uint32), 3, make_sampling_params(0))
        small.write(1)
        if self._large.jobs:
            large = self._rows(self._large)
            small.move(0, large, 0)
            large.write(1)
            large.move(0, small, 0)
        small.end(0)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._is_closed or self._waiting or self._running):
                    self._condition.wait()
                if self._is_closed:
                    break
            started = time.perf_counter()
            try:
                self._take_turn()
            except Exception as error:  # such as for want of memory: the requests fail, and the engine lives
                self._fail_running(error)
            self._count(busy_seconds=time.perf_counter() - started)
            self._send()
        with self._condition:
            jobs = [*self._small.clear(), *self._large.clear(), *self._waiting]
            self._waiting.clear()
        for job in jobs:
            self._finish(job, EngineError("the server is stopping"), "failed")
        self._send()

    def _take_turn(self) -> None:
        """Read and write a little for everyone."""
        self._drop_ended()
        self._read_prompts()
        small, large = self._small, self._large
        if len(large.taken_rows()) == 1 and not (small.jobs[0] or self._waiting):
            self._move(large, large.taken_rows()[0], small, 0)
        for group in (small, large):
            if any(job and job.has_begun for job in group.jobs):
                self._write(group, self._chunk_size(group))

    def _chunk_size(self, group: _Group) -> int:
        """Tokens until the next look: as time allows, and where others wait no more than until the first text ends."""
        most = max(1, min(int(CHUNK_S / group.step_s), MAX_CHUNK))
        if not self._waiting:
            return most
        return min(
            most, *(group.jobs[row].request.max_new_tokens - group.jobs[row].num_new for row in group.taken_rows())
        )

    def _read_prompts(self) -> None:
        """Read what is waiting, and write its first token; where others have to wait, as long as a chunk takes."""
        small, large, started = self._small, self._large, time.perf_counter()
        while small.jobs[0] or self._start_next():
            job, rows = small.jobs[0], self._rows(small)
            if rows.unread(0) > PIECE:
                rows.read(PIECE)
            elif not job.has_begun:
                job.has_begun = True
                self._write(small, 1)
            if small.jobs[0] and job.has_begun:
                if not large.jobs or not (self._waiting or large.taken_rows()):
                    return  # it continues alone
                self._move(small, 0, large, large.jobs.index(None))
            if time.perf_counter() - started > max(CHUNK_S, large.write_s) and large.taken_rows():
                return

    def _drop_ended(self) -> None:
        """Free the places of requests whose clients have left, or whose deadline has passed."""
        now = time.monotonic()
        with self._condition:
            late = [job for job in self._waiting if job.is_closed or job.deadline <= now]
            for job in late:
                self._waiting.remove(job)
        for group in (self._small, self._large):
            for row in group.taken_rows():
                if group.jobs[row].is_closed or group.jobs[row].deadline <= now:
                    late.append(group.jobs[row])
                    self._rows(group).end(row)
                    self._free(group, row)
        for job in late:
            if job.is_closed:
                self._finish(job, None, "cancelled")
            else:
                early = DeadlineError("the answer had not begun when its time was over; try again later")
                self._finish(job, "length" if job.num_new else early, "timed_out")

    def _start_next(self) -> bool:
        """Give the free small group to the next request, if there is one, and if there will be a row for it."""
        with self._condition:
            if not self._waiting or (self._large.jobs and None not in self._large.jobs):
                return False
            job = self._small.jobs[0] = self._waiting.popleft()
            self._running += 1
        request = job.request
        key = np.zeros(2, np.uint32) if request.key is None else request.key
        self._rows(self._small).start(0, request.prompt, key, request.max_new_tokens, request.sampling())
        self._count(prompt_tokens=len(request.prompt))
        return True

    def _move(self, group: _Group, row: int, other: _Group, other_row: int) -> None:
        self._rows(group).move(row, self._rows(other), other_row)
        other.jobs[other_row], group.jobs[row] = group.jobs[row], None

    def _write(self, group: _Group, num_tokens: int) -> None:
        """Continue the texts of a group, and give their clients what is new."""
        started, rows = time.perf_counter(), self._rows(group)
        new, steps = rows.write(num_tokens)
        group.write_s = time.perf_counter() - started
        group.step_s = group.write_s / max(steps, 1)
        for row in group.taken_rows():
            job = group.jobs[row]
            job.num_new += len(new[row])
            if new[row]:
                self._outbox.append((job, new[row]))
            if rows.free[row]:
                self._free(group, row)
                self._finish(job, "stop" if rows.stopped[row] else "length", "finished")
        self._count(new_tokens=sum(map(len, new)))

    def _free(self, group: _Group, row: int) -> None:
        group.jobs[row] = None
        with self._condition:
            self._running -= 1

    def _fail_running(self, error: Exception) -> None:
        jobs = [*self._small.clear(), *self._large.clear()]
        with self._condition:
            self._running -= len(jobs)
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        for job in jobs:
            self._finish(job, EngineError(f"the model could not continue the text: {first_line}"), "failed")

    def _finish(self, job: Job, item: object, how: str) -> None:
        self._outbox.append((job, item))
        self._count(**{how: 1})

    def _count(self, **more: float) -> None:
        with self._condition:
            changed = {name: getattr(self._stats, name) + value for name, value in more.items()}
            self._stats = dataclasses.replace(self._stats, **changed)

    def _send(self) -> None:
        """Give clients what is new: a loop is woken once for all of its clients."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, object]]] = {}
        for job, item in self._outbox:
            by_loop.setdefault(job.loop, []).append((job, item))
        self._outbox = []
        for loop, items in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody reads any more
                loop.call_soon_threadsafe(_put, items)


def _put(items: list[tuple[Job, object]]) -> None:
    for job, item in items:
        job.items.put_nowait(item)
