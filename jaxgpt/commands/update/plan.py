"""What an update trains and measures: the flags of the new run, from those of the run that it continues. No JAX."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

from jaxgpt import console
from jaxgpt.commands.flags import parse
from jaxgpt.commands.train import name_tokenizer
from jaxgpt.commands.update.config import UpdateConfig
from jaxgpt.data import shards
from jaxgpt.data.config import DataConfig
from jaxgpt.data.datasets import load, load_val_also
from jaxgpt.data.loader import batches_per_epoch
from jaxgpt.data.order import parse_mixture
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.text_part import TextPart, name_of_whole
from jaxgpt.errors import CheckpointError, DataError, JaxgptError, UsageError
from jaxgpt.runs.folder import split_checkpoint
from jaxgpt.runs.lineage import find_parents, newest_step, read_lineage
from jaxgpt.runs.weights import WeightsRef, resolve_weights
from jaxgpt.runtime.config import PROCESS_FLAGS
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.resume import load_run_config, require_output, require_weights

DEFAULT_VAL = 0.1  # of a new text that has no validation split
SMALLEST_SHARE = 0.01  # percent: what a text of a long lineage keeps


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an update does.

    Attributes:
      parent, step: the run that is continued, and from which of its checkpoints.
      weights: those of that checkpoint.
      train: the flags of the new run.
      data: what it trains on: the new text first, then the old ones.
      new, old: validation texts; the old ones by their names in log.jsonl.
    """

    parent: Path
    step: int
    weights: WeightsRef
    train: TrainConfig
    data: Windows
    new: Text
    old: dict[str, Text]

    @property
    def out(self) -> Path:
        return self.train.run.out


def make_plan(config: UpdateConfig) -> Plan:
    """Find what is continued, and settle what the new run is; nothing is written.

    Raises:
      JaxgptError: something is missing, or does not fit.
    """
    parent, step = find_checkpoint(config)
    checkpoint = parent / "checkpoints" / str(step)
    weights = resolve_weights(checkpoint)
    old, _ = load_run_config(parent)
    if weights.data_kind != "text":
        kind = f"was trained on {weights.data_kind}, and an update mixes texts for a model that writes"
        raise UsageError(f"{config.run}: {kind}; fine-tune it with {console.program('train')} --init-from")
    if old.privacy.is_private:
        again = f"{console.program('train')} --init-from {config.run} --dp-epsilon {old.privacy.dp_epsilon:g}"
        raise UsageError(
            f"{config.run}: a private run, and an update reads its data again, without the noise that it promises; "
            f"train on with new data alone: {again} --data {config.data} --out {config.out}"
        )
    new_text, new_val = split_new(config)
    sized = TrainConfig.from_preset(Preset(predict_tokens=old.preset.predict_tokens), weights.config)
    flags = {
        "init_from": str(checkpoint),
        "size": sized.preset.size,
        "out": config.out,
        "data": DataConfig.data,
        "tokenizer": name_tokenizer(weights),
        "mix": format_mixture(config, new_text, old),
        "val": new_val,
        "val_also": ",".join(f"{name}={text}" for name, text in find_old_val(config, old).items()),
        "order": "shuffled",  # else each update would replay the beginning of the old text
        "seed": (old.run.seed + 1) % 2**31,  # and else the same windows of it
        "fresh": False,
        "allow_other_data": False,
        "epochs": None,
        "steps": config.steps or 1,
        "lr": old.optimizer.lr if config.lr is None else config.lr,
        **{name: getattr(config, name) for name in ("schedule", "warmup_ratio", "cooldown_ratio")},
        "min_lr_ratio": old.optimizer.min_lr_ratio,
        "profile": 0,
        **dict.fromkeys(PROCESS_FLAGS),
    }
    chosen = parse(TrainConfig, [f"--{word}" for word in config.flags], old.replace(**flags), command="train")
    require_weights(chosen, weights.config)
    data, new, old_val = open_texts(chosen)
    steps = config.steps or count_steps(config, data)
    every = config.eval_every if config.eval_every is not None else max(1, steps // 10)
    chosen = chosen.replace(steps=steps, eval_every=every)
    require_output(chosen, weights)
    return Plan(parent, step, weights, chosen, data, new, old_val)


def open_texts(chosen: TrainConfig) -> tuple[Windows, Text, dict[str, Text]]:
    """What is trained on, the new validation text and the old ones; errors name the flags of this command."""
    try:
        data, new = load(chosen.data, chosen.run.seed, chosen.preset.predict_tokens)
        return data, new, load_val_also(chosen.data, data)
    except JaxgptError as error:
        raise type(error)(str(error).replace("--val-also", "--old-val").replace("--mix", "--data")) from None


def find_checkpoint(config: UpdateConfig) -> tuple[Path, int]:
    """The run that is continued, without links in its path, and from which checkpoint.

    An update that has begun keeps its own, whatever its parent has trained, and whichever run RUN links to, by now.
    """
    (run, step), out = split_checkpoint(Path(os.path.realpath(config.run))), Path(os.path.realpath(config.out))
    begun = {Path(each["run"]): each["step"] for each in find_parents(out)}
    if run == out:
        if not begun or read_lineage(out) is None:
            raise UsageError(f"--out {config.out} is RUN, which stays as it is; choose another --out")
        run = next(iter(begun))
    if step is None:
        step = begun.get(run) or newest_step(run)
    if step is None:
        load_run_config(run)  # whose error comes first, if it is no run
        raise CheckpointError(f"{config.run}: no checkpoint there yet; train it first")
    return run, step


def find_baseline(plan: Plan, link: Path, ancestors: Sequence[Path], is_named: bool) -> tuple[Path, int]:
    """The run and the checkpoint that the result is compared with: the one in use, which the link names.

    Without one it is RUN, or, if gates have refused that, the nearest run before it that none has: else two updates
    would lose what one may not.

    Args:
      is_named: whether RUN names a checkpoint, such as one before a cooldown, whose losses are higher than RUN's last.
    """
    in_use = Path(os.path.realpath(link))
    runs = [in_use] * (link.is_symlink() and in_use != Path(os.path.realpath(plan.out)))
    for run in (plan.parent, *ancestors):
        lineage = read_lineage(run)
        runs += [run] * (lineage is None or lineage["promoted"] is not False)
    run = next((run for run in runs if newest_step(run) is not None), plan.parent)  # others were deleted
    return run, plan.step if run == plan.parent and not is_named else newest_step(run)


def split_new(config: UpdateConfig) -> tuple[str, str]:
    """The names of the new text and its validation text."""
    fraction = DataConfig(val=config.val).val_fraction
    if config.val is not None and not fraction:
        return config.data, config.val
    if config.val is None and os.path.isdir(config.data):
        splits = shards.read_meta(Path(config.data))["splits"]
        if splits.get("val", {}).get("tokens"):
            return config.data, config.data
    parts = [str(TextPart(config.data, fraction or DEFAULT_VAL, is_end)) for is_end in (False, True)]
    return parts[0], parts[1]


def find_old_texts(old: TrainConfig) -> list[tuple[str, int]]:
    """The names of the texts that a run was trained on, without what it validated on, and the weight of each."""
    if old.data.mix is not None:
        return [*zip(*parse_mixture(old.data.mix), strict=True)]
    fraction = old.data.val_fraction
    return [(str(TextPart(old.data.data, fraction, is_end=False)) if fraction else old.data.data, 1)]


def format_mixture(config: UpdateConfig, new: str, old: TrainConfig) -> str:
    """--mix of the new run: the new text, and the old ones in percent of all windows."""
    texts = find_old_texts(old)
    known = {os.path.realpath(name_of_whole(name)): name for name, _ in texts}
    whole = os.path.realpath(name_of_whole(config.data))
    if (again := known.get(whole)) is not None:
        raise UsageError(f"--data {config.data}: RUN was trained on it ({again}); name a text of what is new alone")
    validation = {os.path.realpath(name_of_whole(name)): name for name in find_old_val(config, old).values()}
    if not os.path.isdir(whole) and whole in validation:  # of a folder it is another split
        raise UsageError(
            f"--data {config.data}: the loss on it ({validation[whole]}) tells what is forgotten; name other text"
        )
    percent = {new: 100 * (1 - config.replay)}
    if config.replay:
        total = sum(weight for _, weight in texts)
        percent |= {name: 100 * config.replay * weight / total for name, weight in texts}
    shares = {name: f"{max(SMALLEST_SHARE, share):.2f}".rstrip("0").rstrip(".") for name, share in percent.items()}
    return ",".join(f"{name}={share}" for name, share in shares.items())


def find_old_val(config: UpdateConfig, old: TrainConfig) -> dict[str, str]:
    """Validation texts of the old data, by their names in log.jsonl: old, old_2, ..."""
    texts = [*config.old_val]
    if not texts:
        val, fraction = old.data.val, old.data.val_fraction
        first = str(TextPart(old.data.data, fraction, is_end=True)) if fraction else val
        texts = [*filter(None, [first]), *old.data.val_also_texts.values()]
    if not texts:
        raise UsageError(f"{config.run}: was trained without --val; name texts of the old data with --old-val")
    return {f"old_{i}" if i > 1 else "old": text for i, text in enumerate(dict.fromkeys(texts), 1)}


def count_steps(config: UpdateConfig, data: Windows) -> int:
    """The steps in which the windows of the new text are read --epochs times."""
    new = data.texts[0]
    try:
        windows = batches_per_epoch(new.tokens, 1, data.T, data.horizon)
    except ValueError as error:
        raise DataError(f"{new.name}: {error}; give a longer text, or a smaller T") from None
    return math.ceil(round(config.epochs * windows * sum(data.weights) / data.weights[0] / data.B, 6))
