"""--bias: which of two sentences a model finds likelier, overall and by group."""

import functools
import math
from typing import Any

import rich.table
import rich.text

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.commands.evaluate.tables import print_table
from jaxgpt.data.bias_pairs import read_bias_pairs
from jaxgpt.inference.bias_texts import EncodedPairs, encode_pairs
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef

COLUMNS = ("n", "preferred", "95 %", "p (sign test)", "log-odds, nats")
STEREOSET = ("lms", "ss", "icat")


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    shape = source.config.block_size, source.config.bidirectional
    data = encode_pairs(read_bias_pairs(config.bias), source.tokenizer, *shape)
    return functools.partial(measure, config, data)


def measure(config: EvaluateConfig, data: EncodedPairs, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.bias import measure_pairs

    model = load()
    with stage("pairs", len(data.pairs)) as advance:
        results = {"file": str(config.bias)} | measure_pairs(model, data, config.batch_size, advance)
    about = f"{config.bias}: {console.plural(len(data.pairs), 'pair')}, by {results['measure']}"
    if unequal := results["unequal_lengths"]:
        about += f"; {unequal:,} have sentences of different lengths in tokens"
    if results["cut"]:
        about += f"; {console.plural(results['cut'], 'sentence')} longer than the model's context, read in windows"
    console.say("bias", about)
    print_table(make_table(results))
    return {"bias": results}


def make_table(results: dict[str, Any]) -> rich.table.Table:
    """A row for all pairs, and one for each direction and group."""
    names = [name for name in STEREOSET if name in results]
    table = rich.table.Table("", *COLUMNS, *(name.upper() for name in names))
    rows = {"all": results} | results.get("directions", {})
    for label, numbers in [*rows.items(), *results.get("groups", {}).items()]:
        cells = [label or "(none)", f"{numbers['n']:,}", *format_preference(numbers)]
        cells.append(f"{numbers['log_odds']:+.4f} ± {numbers['log_odds_stderr']:.4f}")
        cells += [f"{numbers[name]:.2f}" for name in names]
        table.add_row(*(rich.text.Text(console.escape(cell)) for cell in cells))
    return table


def format_preference(numbers: dict[str, float]) -> list[str]:
    """The share that is preferred, its interval, and the p-value."""
    if math.isnan(numbers["preferred"]):
        return ["all are ties", "", ""]
    interval = f"{numbers['preferred_low']:.4f} to {numbers['preferred_high']:.4f}"
    return [f"{numbers['preferred']:.4f}", interval, f"{numbers['p_value']:.3g}"]
