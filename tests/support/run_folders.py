"""Run folders as a run writes them, without a run: config.json, and a log of made-up numbers."""

import json
import random

CONFIG = {"B": 2, "T": 16, "steps": 60, "block_size": 32, "fingerprint": 64 * "f", "versions": {"jax": "0.10.2"}}
CONFIG |= {"data_kind": "text", "lora": 0, "init_from": None, "seed": 0, "lr": 0.003, "corpus": "a text", "labels": []}
START = {"step": 0, "B": 2, "T": 16, "steps": 60, "dtype": "float32"}


def make_rows(count=60, seed=0, every=20, spikes=(45,)):
    """Rows of a log, with a validation after each `every` steps and a high loss at some."""
    draw, rows = random.Random(seed), []
    for step in range(count):
        loss = 3 + draw.uniform(0, 0.1) + 4 * (step in spikes)
        row = {"step": step, "loss": loss, "grad_norm": draw.uniform(1, 2), "lr": 0.003 / (step + 1)}
        row |= {"position": 32 * step, "tokens_seen": 32 * (step + 1), "step_ms": round(draw.uniform(9, 11), 3)}
        row |= {"tokens_per_s": round(draw.uniform(2900, 3600), 1)}
        if (step + 1) % every == 0:
            row |= {"val_loss": 3.2 + draw.uniform(0, 0.1), "val_loss_stderr": 0.01, "val_tokens": 99}
        rows.append(row)
    return rows


def write_run(folder, rows=None, starts=(START,), **config):
    """Make a run's folder; returns it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"starts": starts} | config))
    write_log(folder, make_rows() if rows is None else rows)
    return folder


def write_log(folder, rows, mode="w"):
    with (folder / "log.jsonl").open(mode) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
