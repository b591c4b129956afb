"""Have people choose the better of two answers: `jaxgpt review runs/chat --prompts prompts.jsonl --out prefs.jsonl`."""

from collections.abc import Sequence

from jaxgpt import console
from jaxgpt.commands.flags import parse
from jaxgpt.commands.review.config import ReviewConfig
from jaxgpt.commands.review.items import encode_items, load_items
from jaxgpt.commands.review.judgments import Judgments
from jaxgpt.commands.review.tokens import load_tokens, read_tokens, tokens_path
from jaxgpt.files import require_separate, require_writable
from jaxgpt.inference.chat_format import find_chat_format
from jaxgpt.reports.judgments import undecided_path
from jaxgpt.runs.weights import require_text_model, resolve_weights

MAX_BATCH = 16  # answers that a model writes at once


def main(argv: Sequence[str]) -> int:
    config = parse(ReviewConfig, argv, command="review")
    sources = [resolve_weights(run) for run in config.runs]
    for source in sources:
        require_text_model(source)
    items = load_items(config.prompts)
    ids = [encode_items(items, source.name, find_chat_format(source), source.config.block_size) for source in sources]
    require_outputs(config)

    from jaxgpt.commands.review.server import Review
    from jaxgpt.serving.server import bind, run_server
    from jaxgpt.serving.web import make_app, read_page

    with bind(config.server) as listening, Judgments(config.out) as judgments:
        tokens = load_tokens(config.out, config.names)

        from jaxgpt.commands.review.answers import Answers
        from jaxgpt.commands.review.writing import make_writer
        from jaxgpt.runtime.device import memory_errors
        from jaxgpt.serving.served_model import load_served

        batch = min(MAX_BATCH, 4 // len(sources) * len(config.names))  # the answers on each page, and those to the next
        waiting = 2 * len(items)  # all that can be asked for: many annotators may come at once
        with memory_errors("use smaller models, or name fewer --annotators"):
            served = [load_served(source, config.device, config.dtype, batch, waiting) for source in sources]
        for name, each in zip(config.runs, served, strict=True):
            console.note(f"{name}: {each.described}")
            if each.chat_format.is_chat and items[0].prompt is not None:
                console.note(f"{name}: trained on conversations ('messages'); it continues a 'prompt' as plain text")
        both = [0, len(served) - 1]  # of one model two draws
        models = name_models(config.runs, [(each.name, each.fingerprint) for each in served])
        models = [models[number] for number in both]
        note_other_models(judgments, models)
        writers = [make_writer(served[number], config, ids[number]) for number in both]
        answers = Answers(writers, models, config.sampling, config.seed, judgments.records)
        review = Review(items, judgments, answers, tokens, config.per_item, config.seed, read_page("review.html"))

        def close() -> None:
            for each in served:
                each.engine.close()

        def announce(port: int) -> None:
            console.say("review", f"{console.plural(len(items), 'prompt')}, judgments in {config.out}; Ctrl-C ends it")
            for token, name in tokens.items():
                console.say(name, f"{config.server.url(port)}/?token={token}")

        return run_server(make_app(review.routes(), config.server.hosts, close), listening, announce)


def require_outputs(config: ReviewConfig) -> None:
    """Refuse files that can't be written, that are the command's inputs, or that have something else."""
    inputs = [("--prompts", config.prompts), *(("RUN", run) for run in config.runs)]
    for path in (config.out, undecided_path(config.out), tokens_path(config.out)):
        require_writable("--out", path)
        require_separate("--out", path, inputs)
    read_tokens(config.out)


def name_models(runs: Sequence[str], models: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The {"name", "fingerprint"} of each; two models whose folders have the same name are called as the user did."""
    are_alike = len({name for name, _ in models}) < len({*models})
    names = runs if are_alike else [name for name, _ in models]
    return [{"name": name, "fingerprint": model[1]} for name, model in zip(names, models, strict=True)]


def note_other_models(judgments: Judgments, models: Sequence[dict[str, str]]) -> None:
    """Say so if the file has answers of other models, which are shown again as they were."""
    others = {each["name"] for record in judgments.records for each in record["models"] if each not in models}
    if others:
        names = ", ".join(sorted(map(str, others)))
        console.note(f"there are judgments of other models already ({names}); the file will have those of both")
