"""Requests, and what comes of them, without a model."""

import asyncio

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.serving.token_stream import DeadlineError, EngineError, GenerationRequest, Job, TokenStream, check_request


def read(*items, request=None):
    """What a client gets of these items: pieces, the stream, and the error."""

    async def run():
        job, pieces, error = Job(request, asyncio.get_running_loop(), 0.0), [], None
        for item in items:
            job.items.put_nowait(item)
        stream = TokenStream(request, job)
        try:
            pieces = [piece async for piece in stream]
        except Exception as raised:
            error = raised
        assert [piece async for piece in stream] == []  # it has ended for good
        return pieces, stream, error

    return asyncio.run(run())


def test_how_a_stream_ends():
    for reason in ("stop", "length"):
        pieces, stream, error = read([3, 4], [5], reason)
        assert pieces == [[3, 4], [5]] and stream.num_new == 3 and error is None
        assert stream.finish_reason == reason
    for raised in (DeadlineError("late"), EngineError("failed")):
        _, stream, error = read([3], raised)
        assert error is raised and stream.finish_reason is None


def test_a_stream_that_is_closed_or_dropped_closes_its_job():
    async def run():
        jobs = [Job(None, asyncio.get_running_loop(), 0.0) for _ in range(2)]
        closed, dropped = (TokenStream(None, job) for job in jobs)
        jobs[0].items.put_nowait([1])
        await closed.aclose()
        await closed.aclose()
        assert [piece async for piece in closed] == []
        assert (jobs[0].is_closed, jobs[1].is_closed) == (True, False)
        del dropped
        assert jobs[1].is_closed

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerationRequest((), 5), "a prompt of at least one token"),
        (GenerationRequest((1,), 0), "at least one new token"),
        (GenerationRequest((1,) * 150, 51), "150 tokens of the prompt and 51 new ones are more than .* 200 tokens"),
        (GenerationRequest((1, 61), 5), "beyond the model's vocabulary, ids 0 to 60"),
        (GenerationRequest((1,), 5, temperature=-1), "temperature -1 is out of range"),
        (GenerationRequest((1,), 5, top_p=0), "top_p 0 is out of range"),
    ],
)
def test_what_a_model_can_not_do_is_refused(request_, message):
    with pytest.raises(UsageError, match=message):
        check_request(request_, 200, 61)
