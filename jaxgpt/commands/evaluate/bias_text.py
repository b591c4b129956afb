"""--bias-text: how much less likely a text becomes when names, pronouns and the like are swapped in it."""

import functools
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.bias import format_preference
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.data.mirrored import read_mirrored
from jaxgpt.data.word_swaps import DEFAULT, WordSwaps, read_word_swaps
from jaxgpt.inference.bias_texts import EncodedText, encode_mirrored
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    swaps = read_word_swaps(config.swaps or DEFAULT)
    text = read_mirrored(config.bias_text, swaps)
    encoded = encode_mirrored(text, source.tokenizer, source.config.block_size)
    return functools.partial(measure, config, swaps, encoded)


def measure(config: EvaluateConfig, swaps: WordSwaps, data: EncodedText, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.bias import measure_gap

    model, text = load(), data.text
    with stage("documents", len(text.documents)) as advance:
        numbers = measure_gap(model, data, config.batch_size, advance)
    counts = {"unit": text.unit, "swapped_words": text.swapped, "without_swap": text.without}
    units = console.plural(len(text.documents), text.unit)
    about = f"{config.bias_text}: {text.swapped:,} words in {units}; {text.without:,} without one are left out"
    if numbers["cut"]:
        about += f"; {numbers['cut']:,} longer than the model's context, read in windows"
    console.say("swapped", about)
    console.say("gap", f"{numbers['gap']:+.4f} ± {numbers['gap_stderr']:.4f} nats a {text.unit} as it stands")
    console.say("", f"{numbers['gap_per_token']:+.6f} ± {numbers['gap_per_token_stderr']:.6f} nats a token")
    console.say("", f"{numbers['gap_absolute']:.4f} nats a {text.unit} without signs")
    share, interval, p_value = format_preference(numbers)
    console.say("preferred", f"{share} as they stand" + f" ({interval}; p {p_value})" * bool(interval))
    return {"bias_text": {"file": str(config.bias_text), "swaps": swaps.name} | counts | numbers}
