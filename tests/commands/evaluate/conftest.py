"""A model of GPT-2's vocabulary, and tasks for it."""

import pytest

from tests.support import tasks


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate")
    tasks.export(path / "hf")
    tasks.write(path / "tasks")
    return path
