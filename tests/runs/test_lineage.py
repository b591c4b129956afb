import json

import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.lineage import (
    FILE,
    describe_checkpoint,
    find_parents,
    newest_step,
    read_lineage,
    walk_ancestors,
    write_lineage,
)

PARENT = {"run": "/gone/a", "id": "f00d", "step": 3}
CONTENT = {
    "run": "cafe",
    "step": 5,
    "created": "2026-11-30T12:00:00+00:00",
    "parents": [PARENT],
    "data": [{"name": "new.txt", "fingerprint": "abc", "share": 0.95, "role": "new"}],
    "gates": [{"name": "old", "before": 1.0, "after": float("nan"), "limit": 0.02, "passed": False}],
    "promoted": False,
}


def run_folder(tmp_path, name, **config):
    (folder := tmp_path / name).mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_is_written_is_read(tmp_path):
    assert read_lineage(tmp_path) is None
    (tmp_path / "mine").write_text("mine")
    (tmp_path / FILE).symlink_to(tmp_path / "mine")
    write_lineage(tmp_path, CONTENT)
    lineage = read_lineage(tmp_path)
    assert {name: lineage[name] for name in ("run", "step", "parents", "data")} == {
        name: CONTENT[name] for name in ("run", "step", "parents", "data")
    }
    assert lineage["format"] == 1 and {"jaxgpt", "jax", "flax", "optax", "python"} == lineage["versions"].keys()
    assert lineage["gates"][0]["after"] is None  # JSON has no NaN
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / FILE).is_symlink()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"parents": None},
        {"parents": ["a"]},
        {"parents": [{"run": 1}]},
        {"data": [{"name": "a"}]},
        {"gates": [{"name": "a", "before": "1", "after": 1, "passed": True}]},
        {"promoted": None},
        {"versions": []},
        {"run": 5},
        *({"parents": [PARENT, PARENT | {"run": name}]} for name in ("a\0b", "/" + 5000 * "x", "\ud800")),
    ],
)
def test_what_no_update_writes_is_one_line(tmp_path, change):
    write_lineage(tmp_path, CONTENT)
    content = json.loads((tmp_path / FILE).read_text())
    for text in (json.dumps(content | change), json.dumps(content)[:-9], "[]", "{}"):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(CheckpointError, match=r"lineage.json: corrupt: .*"):
            read_lineage(tmp_path)


def test_a_run_that_no_update_made_comes_from_what_it_began_with(tmp_path):
    old = run_folder(tmp_path, "old", init_from=None, base=None)
    assert find_parents(old) == [] == find_parents(tmp_path / "nowhere")
    child = run_folder(tmp_path, "child", init_from="old/checkpoints/7", base=f"{old}/checkpoints/7")
    assert find_parents(child) == [{"run": str(old), "id": None, "step": 7}]
    assert find_parents(run_folder(tmp_path, "tuned", init_from="gpt2")) == [{"run": "gpt2", "id": None, "step": None}]
    assert find_parents(run_folder(tmp_path, "hostile", base="a\0b")) == []
    grandchild = run_folder(tmp_path, "grandchild", base=str(child))
    write_lineage(grandchild, CONTENT | {"parents": [PARENT, PARENT | {"run": str(child)}]})
    assert [path.name for path in walk_ancestors(grandchild)] == ["a", "child", "old"]
    (old / "config.json").write_text(json.dumps({"base": str(grandchild)}))  # which no run can be
    assert [path.name for path in walk_ancestors(grandchild)] == ["a", "child", "old"]


def test_a_checkpoint_is_named_by_its_signature_and_its_own_hash(tmp_path):
    def checkpoint(run, step, **metadata):
        (folder := tmp_path / run / "checkpoints" / str(step) / "progress").mkdir(parents=True)
        (folder / "metadata").write_text(json.dumps(metadata))
        return describe_checkpoint(tmp_path / run, step)

    first = checkpoint("a", 3, identity={"seed": 0}, sha256="1")
    later = checkpoint("a", 12, identity={"seed": 0}, sha256="2")
    other = checkpoint("b", 3, identity={"seed": 1}, sha256="3")
    assert first["id"] == later["id"] != other["id"] and first["checkpoint_fingerprint"] == "1"
    assert first | {"id": 0} == {"run": f"{tmp_path}/a", "id": 0, "step": 3, "checkpoint_fingerprint": "1"}
    assert describe_checkpoint(tmp_path / "gone", 3) == {
        "run": f"{tmp_path}/gone",
        "id": None,
        "step": 3,
        "checkpoint_fingerprint": None,
    }
    assert (newest_step(tmp_path / "a"), newest_step(tmp_path / "gone")) == (12, None)
