"""Play with a model in an environment: `jaxgpt play runs/rl --env tic-tac-toe`."""

import functools
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxgpt import console
from jaxgpt.commands.flags import parse
from jaxgpt.commands.play.config import DEFAULT_GAMES, PlayConfig
from jaxgpt.commands.play.game import play_game
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.environments import open_environment, tic_tac_toe
from jaxgpt.environments.base import Environment, end_token, limit_answer
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.episodes import Transcript
    from jaxgpt.models.base import Generative


def main(argv: Sequence[str]) -> int:
    config = parse(PlayConfig, argv, command="play")
    environment = open_environment(config.env)
    if config.record:
        record_examples(config, environment)
        return 0
    source = resolve_weights(config.model)
    require_text_model(source)
    end_token(environment, source.tokenizer)
    if config.json:
        require_writable("--json", config.json)
        require_separate("--json", config.json, [("MODEL", config.model), ("the weights under it,", source.base)])
        require_new("--json", config.json)

    from jaxgpt.inference import game_tree, placement
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    if config.what != "episode":
        game_tree.require_room(source.config.block_size, source.tokenizer)
    compute, described = placement.select_compute(source.config, config.device, config.dtype)
    console.note(f"{config.model}: {described}")
    with device.memory_errors("use a smaller model"):
        model = load(source, **compute)
        play = functools.partial(play_level, config, model, source.tokenizer)
        if config.what == "tree":
            play_tree(config, model, source.tokenizer)
        elif config.what == "game":
            play_game(config.side == "second", play)
        else:
            level = environment.num_levels if config.level is None else config.level
            show_episode(environment, level, play(environment, level), source.tokenizer)
    return 0


def record_examples(config: PlayConfig, environment: Environment) -> None:
    """Write examples, one on each level in turn."""
    path, n, seed = config.record, config.games or DEFAULT_GAMES, config.seed or 0
    require_writable("--record", path)
    require_new("--record", path)
    lines = []
    with stage("examples", n) as advance:
        for number in range(n):
            prompt, completion = environment.example(number % environment.num_levels, seed << 32 | number)
            lines.append(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
            advance(1)
    write_whole(path, "".join(lines), new=True)
    console.say("saved", f"{path}: {console.plural(n, 'example')} of {config.env}")


def play_tree(config: PlayConfig, model: "Generative", tokenizer: Tokenizer) -> None:
    """Count how all games of the model end, as either player."""
    from jaxgpt.inference.game_tree import make_player

    with stage("positions") as advance:
        choose = make_player(model, tokenizer, advance)
        trees = [tic_tac_toe.walk(choose, side)._asdict() for side in (0, 1)]
    results = dict(zip(("first", "second"), trees, strict=True))
    for name, tree in results.items():
        console.say(name, ", ".join(f"{count:,} {ending}" for ending, count in tree.items()))
    if not any(tree["lost"] + tree["illegal"] for tree in trees):
        console.say("tree", "no illegal move and no lost line")
    if config.json:
        write_whole(config.json, json.dumps({"model": config.model} | results, indent=2) + "\n", new=True)
        console.say("saved", str(config.json))


def play_level(
    config: PlayConfig, model: "Generative", tokenizer: Tokenizer, environment: Environment, level: int
) -> "Transcript":
    from jaxgpt.inference.episodes import play_levels

    answer_tokens = limit_answer(environment, model.config.block_size, config.answer_tokens)
    temperature, seed = config.temperature or 0.0, config.seed or 0
    return play_levels(model, environment, [level], tokenizer, answer_tokens, temperature, seed)[0]


def show_episode(environment: Environment, level: int, played: "Transcript", tokenizer: Tokenizer) -> None:
    """Print what was read and what was answered."""
    console.say("level", f"{level:,} of {environment.name}")
    who = ["prompt"] * played.num_prompt
    who += ["answer" if learned else "reply" for learned in played.learned[played.num_prompt :]]
    for name, part in itertools.groupby(zip(who, played.tokens.tolist(), strict=True), key=lambda pair: pair[0]):
        text = tokenizer.decode([token for _, token in part])
        print(f"---- {name}", console.escape_for_terminal(text).removesuffix("\n"), sep="\n")
    print("----")
    is_best, cut = played.reward >= environment.best, ", cut: there was no more room" * played.cut
    console.say("reward", f"{played.reward:g}{', the best' * is_best}{cut}")
