"""The command line: `jaxgpt <command>`, one file a command, each imported when it is called. Nothing imports it."""

import importlib
import os
import sys
from collections.abc import Sequence

import jaxgpt
from jaxgpt import console
from jaxgpt.errors import RetryableError, UsageError

try:
    import resource
except ImportError:  # Windows
    resource = None

COMMANDS = {  # name: its module, which has main(argv) -> exit code, and its help text
    "train": ("jaxgpt.commands.train", "train a model on a text or on examples; again: resume the run"),
    "sample": ("jaxgpt.commands.sample", "write text with a trained model"),
    "chat": ("jaxgpt.commands.chat", "talk to a model, turn by turn"),
    "serve": ("jaxgpt.commands.serve", "serve a model over HTTP by OpenAI's API, with a chat page"),
    "review": ("jaxgpt.commands.review", "have people choose the better of two answers, on a web page"),
    "evaluate": (
        "jaxgpt.commands.evaluate",
        "measure a model: loss, labels, judged answers, multiple choice, tasks, rewards",
    ),
    "play": ("jaxgpt.commands.play", "play tic-tac-toe with a model, or watch it in an environment"),
    "predict": ("jaxgpt.commands.predict", "predict the labels of texts"),
    "prepare": ("jaxgpt.commands.prepare", "make token shards of raw text: clean, deduplicate, anonymize, tokenize"),
    "tokenizer": ("jaxgpt.commands.tokenizer", "train a tokenizer on text: tokenizer train INPUT... --out FOLDER"),
    "erase": ("jaxgpt.commands.erase", "erase documents from a prepared folder, and find the runs that have read them"),
    "inspect": ("jaxgpt.commands.inspect", "show what is in a prepared folder, and what was dropped and why"),
    "export": ("jaxgpt.commands.export", "write a run's model for Hugging Face's transformers"),
    "verify": ("jaxgpt.commands.verify", "check a run's checkpoints, and prove that it resumes bit for bit"),
    "replay": ("jaxgpt.commands.replay", "show the batch of a step, with its losses"),
    "update": ("jaxgpt.commands.update", "train a run on with new data, and promote it if the old is not forgotten"),
    "sweep": ("jaxgpt.commands.sweep", "train runs of every combination of some flags, and compare them"),
    "glue": ("jaxgpt.commands.glue", "fine-tune on GLUE, SuperGLUE or your own tasks, and measure them"),
    "agreement": ("jaxgpt.commands.agreement", "measure how far annotators agree, and which model they prefer"),
    "report": ("jaxgpt.commands.report", "make an HTML report of runs: losses, speed, spikes, settings, evaluations"),
    "track": ("jaxgpt.commands.track", "send a run's rows to TensorBoard, W&B, MLflow or Trackio"),
    "fit": ("jaxgpt.commands.fit", "show a training step's GPU memory, and the largest batch"),
    "look": ("jaxgpt.commands.look", "look inside a model: layers, heads, and what makes its answer"),
    "doctor": ("jaxgpt.commands.doctor", "look at this machine: versions, driver, memory, disk, network"),
}

# Bytes of addresses that a command's libraries take, JAX's unless it is named here, and those of a core's threads.
ADDRESS_SPACE = {"train": 5e9} | dict.fromkeys(
    ("prepare", "tokenizer", "inspect", "erase", "report", "track", "agreement"), 0.5e9
)
THREAD_SPACE = 0.1e9


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names with the other words; returns its exit code."""
    name, *words = argv or [""]
    if name in COMMANDS:
        module, _ = COMMANDS[name]
        _require_address_space(name)
        from jaxgpt.files import owner_only

        with owner_only():  # whatever it writes, and its workers
            return importlib.import_module(module).main(words)
    if name == "--version":
        print("jaxgpt", jaxgpt.__version__)
        return 0
    if name in ("-h", "--help", "help"):
        print(format_overview())
        return 0
    if not argv:
        print(format_overview(), file=sys.stderr)
        return UsageError.exit_code
    raise UsageError(describe_unknown(name))


def _require_address_space(name: str) -> None:
    """Refuse a limit (ulimit -v) that the command's libraries alone exceed: they would abort when they are loaded."""
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    needed = ADDRESS_SPACE.get(name, ADDRESS_SPACE["train"]) + threads * THREAD_SPACE
    if 0 <= limit < needed:  # below 0: none
        limits = f"{limit / 1e9:.1f} GB, and {name} needs more than {needed / 1e9:.1f} GB"
        raise RetryableError(f"the process's memory is limited to {limits}; raise the limit (ulimit -v)")


def format_overview() -> str:
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items())
    command = console.program("<command>")
    return "\n".join([f"usage: {command} [flags]", "", *lines, "", f"{command} --help lists the flags of a command."])


def describe_unknown(name: str) -> str:
    """The error for a word that names no command, with the nearest command."""
    import difflib

    if name.startswith("-"):
        return f"{name}: the first word names a command, such as train; --help lists the commands"
    (nearest,) = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0)
    return f"{name}: no such command; did you mean {nearest}? --help lists the commands"
