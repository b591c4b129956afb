"""Write a run's model for `transformers`: `jaxgpt export runs/default folder`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import say
from jaxgpt.data.chat import CHAT_TEMPLATE
from jaxgpt.errors import CheckpointError
from jaxgpt.files import require_empty, require_separate
from jaxgpt.reports.cards import require_licence
from jaxgpt.runs import provenance
from jaxgpt.runs.folder import require_utf8
from jaxgpt.runs.tensors import WEIGHTS
from jaxgpt.runs.weights import resolve_weights

CARD = "README.md"


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Write the newest checkpoint of a run as a folder that `transformers` loads: the model and its tokenizer."""

    run: Annotated[str, *positional("RUN")]
    """A run folder."""
    folder: Annotated[Path, *positional("FOLDER")]
    """Where to write; a new folder, or an empty one."""
    license: str | None = None
    """The licence of the model for its card, by its name on the Hugging Face hub, such as mit, apache-2.0 or other."""

    def __post_init__(self):
        require_licence(self.license)


def read_card(folder: Path) -> str:
    """The card that is in a folder already, which someone may have amended, so that it stays; "": there is none."""
    try:
        return (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    except (OSError, ValueError):  # it is not overwritten either: the folder is refused
        return ""


def main(argv: Sequence[str]) -> int:
    config = parse(ExportConfig, argv, command="export")
    source = resolve_weights(config.run)
    if not source.is_run:
        raise CheckpointError(f"{config.run}: not a run folder; a run's newest checkpoint is exported")
    require_utf8(config.folder)
    tokenizer = source.tokenizer
    length, template = source.T or source.config.block_size, tokenizer.template if source.labels else None
    others = tokenizer.hugging_face_files(length, template, CHAT_TEMPLATE if source.is_chat else None)
    written = {"config.json", WEIGHTS, CARD, provenance.FILE, *others}
    require_empty(config.folder, except_for=written)  # the same ones stay
    require_separate("FOLDER", config.folder, [("RUN", config.run), ("the weights under it,", source.base)])

    import jax

    from jaxgpt.models.convert import with_n_heads
    from jaxgpt.reports.logged_run import load_runs
    from jaxgpt.reports.model_card import render_model_card
    from jaxgpt.runs.huggingface import load_with_step, save_hf
    from jaxgpt.runtime import device

    device.select("cpu")
    with device.memory_errors("it takes the memory of the model twice"):
        model, step = load_with_step(source, pad_vocab_to_multiple_of=1)
        model = with_n_heads(model, 1)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(model))
        (run,) = load_runs([source.folder])
        card = render_model_card(run, source, step, parameters, config.license)
        others |= {CARD: read_card(config.folder) or card}
        others |= {provenance.FILE: provenance.describe(source.folder, config.folder, step).to_json()}
        save_hf(model, config.folder, source.labels, others, tokenizer)
    which = config.run if source.step else f"the newest checkpoint of {config.run}"
    say("exported", f"{config.folder}, from {which}")
    if (n := source.config.predict_tokens) > 1:
        say("note", f"the head of the next token; GPT-2 has none for the other {n - 1} that the run predicts")
    if source.is_reward or source.is_regression:
        raw = "truncation=True, function_to_apply='none'"  # else transformers gives its sigmoid
        say("use it", f"transformers.pipeline('text-classification', {str(config.folder)!r}, {raw})")
    elif source.labels:
        say("use it", f"transformers.pipeline('text-classification', {str(config.folder)!r}, truncation=True)")
    elif source.config.bidirectional:
        say("use it", f"transformers.pipeline('fill-mask', {str(config.folder)!r})")
    else:
        messages = "([{'role': 'user', 'content': 'Hi!'}])" if source.is_chat else ""
        say("use it", f"transformers.pipeline('text-generation', {str(config.folder)!r}){messages}")
    return 0
