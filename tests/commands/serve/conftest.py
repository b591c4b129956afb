import pytest

from tests.support.fake_engine import FakeEngine, fake_model


@pytest.fixture
def served():
    """A served model with a context of 64 tokens, which are bytes; it writes what `engine.answers` are."""
    return fake_model(FakeEngine())
