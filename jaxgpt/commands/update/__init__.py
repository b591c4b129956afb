"""Train a run on with new text, without forgetting the old: `jaxgpt update RUN --data NEW --out RUN2`.

It measures, trains as `jaxgpt train` does, measures again, and judges. All but the training is done anew by each start,
and the training resumes, so there is nothing else to keep: lineage.json and the link are written at the end, in whole.
"""

import datetime
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgpt import console
from jaxgpt.commands.flags import parse
from jaxgpt.commands.update.config import UpdateConfig
from jaxgpt.commands.update.gates import Gate, make_gates
from jaxgpt.commands.update.plan import Plan, find_baseline, make_plan
from jaxgpt.data.order import parse_mixture
from jaxgpt.errors import CheckpointError, GateError, UsageError
from jaxgpt.locks import hold
from jaxgpt.reports.lineage_tree import describe_gate
from jaxgpt.runs.folder import split_checkpoint
from jaxgpt.runs.lineage import describe_checkpoint, newest_step, read_lineage, walk_ancestors, write_lineage
from jaxgpt.runs.promotion import DEFAULT_NAME, promote, require_promotable
from jaxgpt.runs.weights import WeightsRef, resolve_weights
from jaxgpt.training.run import run

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.paired import Sums


def main(argv: Sequence[str]) -> int:
    config = parse(UpdateConfig, argv, command="update")
    plan = make_plan(config)
    link = find_link(config)
    ancestors = [*walk_ancestors(plan.parent)]
    if is_done(config, plan):
        console.say("update", f"{config.out}: has been promoted already")
        return 0
    replaced = [plan.parent, *ancestors]
    require_promotable(link, config.out, replaced)
    baseline, step = find_baseline(plan, link, ancestors, config.run.parent.name == "checkpoints")
    in_use = resolve_weights(baseline / "checkpoints" / str(step))
    if in_use.config.predict_tokens != plan.data.horizon:
        heads = f"{in_use.config.predict_tokens} tokens ahead, and RUN {plan.data.horizon}"
        raise UsageError(f"{baseline}: predicts {heads}: they can't be compared; name another link with --promoted")
    gates = make_gates(config, plan)

    from jaxgpt.runtime import allocator, device

    allocator.use_one_heap()  # as the training has it
    device.select(plan.train.parallel.device, plan.train.parallel.deterministic)
    console.say("parent", f"{plan.parent}/checkpoints/{plan.step}")
    console.say("baseline", f"{baseline}/checkpoints/{step}")
    before = measure(plan, gates, in_use)
    for gate, sums in zip(gates, before, strict=True):
        console.say("before", f"{gate.name}: {sums.mean:.4f}")
    if code := run(plan.train, plan.weights):
        console.say("update", "not done: the same jaxgpt update command resumes it, and then measures and judges")
        return code
    with hold(config.out):
        verdicts = judge(config, plan, gates, before)
        content = describe(plan, verdicts) | {"baseline": describe_checkpoint(baseline, step)}
        write_lineage(config.out, content | {"promoted": False})
        refuse_failed(config, verdicts)
        promote(link, config.out, replaced)
        write_lineage(config.out, content | {"promoted": content["created"]})
    console.say("promoted", f"{link}: {config.out}")
    return 0


def find_link(config: UpdateConfig) -> Path:
    """--promoted; by default it stands beside RUN, which it may be itself."""
    run, _ = split_checkpoint(config.run if config.run.name else config.run.absolute())
    return config.promoted or run.parent / DEFAULT_NAME


def is_done(config: UpdateConfig, plan: Plan) -> bool:
    """Whether this update has promoted its run, whatever the link has become since.

    Raises:
      UsageError: another update has made the run.
    """
    lineage = read_lineage(config.out)
    if lineage is None:
        return False
    recorded = [(each["fingerprint"], each["share"]) for each in lineage["data"]]
    parents = [(each["run"], each["step"]) for each in lineage["parents"]]
    if recorded != [(each["fingerprint"], each["share"]) for each in describe_data(plan)] or parents != [
        (str(plan.parent), plan.step)
    ]:
        raise UsageError(f"--out {config.out}: another update has made that run; choose another --out")
    return lineage["promoted"] is not False


def measure(plan: Plan, gates: list[Gate], weights: WeightsRef) -> "list[Sums]":
    """What each gate measures of some weights."""
    from jaxgpt.inference import placement
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    where, dtype = plan.train.parallel.device, plan.train.model.dtype
    with device.memory_errors("use a smaller B: --flags B=..."):
        compute, described = placement.select_compute(weights.config, where, dtype, plan.new.T)
        console.say("model", f"{weights.name}: {described}")
        model = load(weights, **compute)
        return [gate.measure(model) for gate in gates]


def judge(config: UpdateConfig, plan: Plan, gates: list[Gate], before: "list[Sums]") -> list[dict[str, Any]]:
    """Measure the new run, and print and return what each gate has found."""
    from jaxgpt.inference.paired import compare

    steps, newest = plan.train.run.steps, newest_step(config.out)
    if newest != steps:
        raise CheckpointError(
            f"{config.out}: its newest checkpoint is of step {newest}, and the update ends with step {steps:,}; "
            "a run that was trained on is not judged: choose another --out"
        )
    after = measure(plan, gates, resolve_weights(config.out / "checkpoints" / str(steps)))
    verdicts = []
    for gate, old, new in zip(gates, before, after, strict=True):
        change = compare(old, new)
        verdicts.append(gate.judge(change))
        console.say("gate" if gate.limit is not None else "after", describe_gate(verdicts[-1]))
        if gate.limit is not None and 2 * change.stderr > config.max_forgetting:
            console.note(f"{gate.name}: a change below 2 * {change.stderr:.4f} is not seen; use more validation data")
    return verdicts


def refuse_failed(config: UpdateConfig, verdicts: list[dict[str, Any]]) -> None:
    failed = [each for each in verdicts if not each["passed"]]
    if not failed:
        return
    first, more = failed[0], f", and {len(failed) - 1} more" * (len(failed) > 1)
    allowed = f"{first['limit']:g} beyond two standard errors is allowed"
    changed = "is not a number" if math.isnan(first["change"]) else f"has changed by {first['change']:+.4f}"
    raise GateError(
        f"{config.out}: not promoted: {first['name']} {changed} ± {first['stderr']:.4f}, and {allowed}{more}; "
        "use a larger --replay or a lower --lr, and another --out"
    )


def describe(plan: Plan, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """What lineage.json says of the run."""
    checkpoint = describe_checkpoint(plan.out, plan.train.run.steps)
    return {
        "run": checkpoint["id"],
        "step": checkpoint["step"],
        "checkpoint_fingerprint": checkpoint["checkpoint_fingerprint"],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "parents": [describe_checkpoint(plan.parent, plan.step)],
        "data": describe_data(plan),
        "gates": verdicts,
    }


def describe_data(plan: Plan) -> list[dict[str, Any]]:
    """The texts of the mixture; the first is the new one."""
    total, (names, _) = sum(plan.data.weights), parse_mixture(plan.train.data.mix)
    entries = [
        {"name": name, "fingerprint": text.fingerprint, "share": weight / total}
        for name, text, weight in zip(names, plan.data.texts, plan.data.weights, strict=True)
    ]
    return [each | {"role": "old" if i else "new"} for i, each in enumerate(entries)]
