"""32 clients at once of a real server, for some seconds: none fails, and each gets the text that one gets alone."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from benchmarks.serving_http import Flags, measure


@pytest.mark.slow
def test_32_clients_get_what_one_client_gets():
    flags = Flags(seconds=4, rounds=1, new_tokens=40, texts=24)
    reference, alone, together = measure(flags)
    assert together.failures == alone.failures == reference.failures == []
    assert reference.texts.keys() == set(range(24)) and len({*map(str, reference.texts.values())}) > 20
    for load in (alone, together):
        assert all(texts == reference.texts[number] for number, texts in load.texts.items())
    assert len(together.times) >= 32 and together.tokens > 40 * 25
