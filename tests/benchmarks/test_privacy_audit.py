"""The audit finds what a run without privacy has learned by heart, and never more than a private run promises."""

import json
import shlex

import numpy as np
import pytest

from benchmarks.privacy_audit import audit_run, plant

SHAPE = shlex.split("--n-layer 1 --n-head 2 --n-embd 32 --block-size 32 --T 16 --tokenizer bytes --B 64 --lr 1e-2")


def test_a_coin_puts_each_canary_into_the_data_or_leaves_it_out(write, tmp_path):
    data = write("mine.jsonl", [{"prompt": "a", "completion": "b"}])
    path, texts, included = plant(tmp_path / "run", 400, data, seed=0)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records.pop() == {"prompt": "a", "completion": "b"}
    assert [record["completion"] for record in records] == np.array(texts)[included].tolist()
    assert len(set(texts)) == 400 and abs(included.sum() - 200) < 40


@pytest.mark.slow
def test_a_run_without_privacy_gives_canaries_away(tmp_path, optimized):
    result = audit_run(tmp_path / "run", [*SHAPE, "--steps", "400"], seed=2)
    assert result.epsilon > 1 and result.correct > 0.8 * result.guesses


@pytest.mark.slow
def test_no_private_run_gives_away_more_than_it_promises(tmp_path, optimized):
    pytest.importorskip("dp_accounting")
    """Of as many steps as make a run without privacy give its canaries away: with fewer, any run would pass."""
    words = [*SHAPE, "--steps", "400", "--dp-epsilon", "1", "--dp-delta", "1e-5", "--dp-microbatch", "8"]
    results = [audit_run(tmp_path / f"{seed}", words, seed=seed) for seed in range(2)]
    assert max(result.epsilon for result in results) <= 1 < min(result.largest for result in results)
