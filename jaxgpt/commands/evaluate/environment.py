"""--env: what a model's episodes in an environment are worth, on levels that it was not trained on."""

import functools
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import DEFAULT_LEVELS, EvaluateConfig, Load, Measure
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.environments import open_environment
from jaxgpt.environments.base import Environment, end_token, limit_answer
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    environment = open_environment(config.env)
    end_token(environment, source.tokenizer)
    return functools.partial(measure, config, environment, source.tokenizer)


def measure(config: EvaluateConfig, environment: Environment, tokenizer: Tokenizer, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.episodes import play_levels
    from jaxgpt.inference.multiple_choice import mean_and_error

    model = load()
    answer_tokens = limit_answer(environment, model.config.block_size, config.answer_tokens)
    temperature, seed = config.temperature or 0.0, config.seed or 0
    first, n = environment.num_levels, config.levels or DEFAULT_LEVELS
    levels, B, transcripts = range(first, first + n), min(config.batch_size, n), []
    how = f"temperature {temperature:g}" if temperature else "the likeliest tokens"
    limit = f"answers of at most {console.plural(answer_tokens, 'token')}"
    console.say("env", f"{environment.name}: levels {first:,} to {levels[-1]:,}, {how}, {limit}")
    with stage("episodes", n) as advance:
        for start in range(0, n, B):
            batch = levels[start : start + B]
            rows = [*batch, *[batch[-1]] * (B - len(batch))]  # all batches have one program
            played = play_levels(model, environment, rows, tokenizer, answer_tokens, temperature, seed)
            transcripts += played[: len(batch)]
            advance(len(batch))
    rewards = [each.reward for each in transcripts]
    mean, stderr = mean_and_error(rewards)
    solved, solved_stderr = mean_and_error([reward >= environment.best for reward in rewards])
    tokens, cut = mean_and_error([int(each.learned.sum()) for each in transcripts])[0], sum(t.cut for t in transcripts)
    console.say("reward", f"{mean:.4f} ± {stderr:.4f}, the mean of {n:,}; from {min(rewards):g} to {max(rewards):g}")
    console.say("solved", f"{solved:.4f} ± {solved_stderr:.4f}, with a reward of {environment.best:g} or more")
    console.say("answers", f"{tokens:,.1f} tokens an episode, {cut:,} of {n:,} cut")
    results = {"env": config.env, "temperature": temperature, "seed": seed, "answer_tokens": answer_tokens, "n": n}
    results |= {"mean": mean, "stderr": stderr, "solved": solved, "solved_stderr": solved_stderr}
    each = [{"level": level, "reward": reward} for level, reward in zip(levels, rewards, strict=True)]
    return {"environment": results | {"tokens": tokens, "cut": cut, "each": each}}
