"""Look inside a model while it reads a prompt: `jaxgpt look gpt2 --prompt "The Eiffel Tower is in"`."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from jaxgpt import console
from jaxgpt.commands.flags import parse, positional
from jaxgpt.data.records import is_unicode
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.inference.look_page import largest_heads, name_head, render_findings
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef, require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.gpt2 import GPT2

LENS_TOKENS, SHOWN = 5, 4  # likeliest tokens of a layer; parts and heads named on the terminal
MAX_PATCHED_POSITIONS = 64  # longest prompt whose residual stream is patched at each token
MAX_ATTENTION = 10**6  # most numbers of attention in the JSON


@dataclasses.dataclass(frozen=True)
class LookConfig:
    """Look inside a GPT-2 while it reads a prompt: which parts of it make the answer, and what each head attends to.

    The answer is the token after the prompt. Layers and heads are counted from 0: head 9.6 is head 6 of layer 9.
    """

    model: Annotated[str, *positional("MODEL")]
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    prompt: str
    """The text to read. <|endoftext|> in it is the token that ends a document."""
    patch: str | None = None
    """Another prompt of as many tokens: show what its activations, each put into the first one's, do to the answer."""
    answer: tuple[str, ...] = ()
    """The answer and, after it, another one to compare it with, a token each, such as ' Paris' ' Rome'. By default the
    likeliest two."""
    out: Path | None = None
    """Write all of it as a page to this new file."""
    json: Path | None = None
    """Write all numbers to this new file."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""

    def __post_init__(self):
        for name in ("prompt", "patch"):
            text = getattr(self, name)
            if text == "":
                raise UsageError(f"--{name} is empty: give it some text")
            if not is_unicode(text or ""):  # what Python makes of other bytes
                raise UsageError(f"--{name} is not UTF-8; set the terminal to UTF-8, or convert the text with iconv")
        if len(self.answer) > 2:
            raise UsageError(f"--answer has {len(self.answer)} values; give the answer, and one to compare it with")


def main(argv: Sequence[str]) -> int:
    config = parse(LookConfig, argv, command="look")
    source = resolve_weights(config.model)
    if source.config.arch != "gpt2":
        raise CheckpointError(f"{config.model}: its architecture is a {source.config.title}; look reads a GPT-2 alone")
    require_text_model(source)
    if source.config.block_size < 2:
        raise CheckpointError(f"{config.model}: its context is one token, which attends to nothing")
    tokenizer = source.tokenizer
    prompts = read_prompts(config, source.config.block_size, tokenizer)
    answers = [read_answer(text, tokenizer) for text in config.answer]
    if len(answers) > len(set(answers)):
        raise UsageError(f"--answer {config.answer[0]!r} is compared with itself; give another one after it")
    require_outputs(config, source)

    from jaxgpt.inference import placement
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    compute, described = placement.select_compute(source.config, config.device, "float32")
    console.note(f"{config.model}: {described}")
    with device.memory_errors("use a shorter --prompt: attention maps grow with the square of its length"):
        model = load(source, **compute | {"unroll": 1})
        with stage("reading the prompt"):
            findings = {"model": config.model} | examine(model, tokenizer, *prompts, answers)
    if not all(math.isfinite(answer["logit"]) for answer in findings["answers"]):
        raise CheckpointError(f"{config.model}: its logits after the prompt are not finite, and so of no use")
    print_findings(findings)
    if config.out:
        write_whole(config.out, render_findings(findings), new=True)
        console.say("saved", str(config.out))
    if config.json:
        write_whole(config.json, format_json(findings), new=True)
        console.say("saved", str(config.json))
    return 0


def read_prompts(config: LookConfig, block_size: int, tokenizer: Tokenizer) -> tuple[list[int], list[int] | None]:
    """The ids of the prompt, and of the other one."""
    prompt = tokenizer.encode_prompt(config.prompt)
    patch = None if config.patch is None else tokenizer.encode_prompt(config.patch)
    if len(prompt) > block_size:
        context = f"more than the model's context of {block_size:,}"
        raise UsageError(f"--prompt has {len(prompt):,} tokens, {context}; shorten it")
    if patch is not None and len(patch) != len(prompt):
        counts = f"--patch has {console.plural(len(patch), 'token')}, and --prompt has {len(prompt):,}"
        raise UsageError(f"{counts}: give prompts of as many tokens, as each is put in another's place")
    return prompt, patch


def read_answer(text: str, tokenizer: Tokenizer) -> int:
    ids = tokenizer.encode_prompt(text)
    if len(ids) != 1:
        raise UsageError(f"--answer {text!r} is {len(ids):,} tokens, and must be one; most words begin with a blank")
    return ids[0]


def require_outputs(config: LookConfig, source: WeightsRef) -> None:
    """Refuse files that can't be written, exist, or are part of the model."""
    for flag, path in (("--out", config.out), ("--json", config.json)):
        if path:
            require_writable(flag, path)
            require_separate(flag, path, [("MODEL", config.model), ("the weights under it,", source.base)])
            require_new(flag, path)
    if config.out and config.json and config.out.resolve() == config.json.resolve():
        raise UsageError(f"--out and --json are both {config.out}; give each a file of its own")


def examine(
    model: "GPT2",
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    patch: Sequence[int] | None = None,
    answers: Sequence[int] = (),
) -> dict[str, Any]:
    """All that is shown of a model that reads a prompt, as numpy arrays and texts.

    Args:
      prompt: ids.
      patch: ids of another prompt, as many; None: nothing is patched.
      answers: ids of up to two tokens; those that are missing are the likeliest others after the prompts.
    """
    import jax
    import jax.numpy as jnp

    from jaxgpt.inference.attribution import attribute_logit
    from jaxgpt.inference.induction import draw_repeated, head_scores
    from jaxgpt.inference.patching import logit_difference, patch_heads, patch_positions
    from jaxgpt.inference.trace import apply_lens, logits_of, trace

    spell = tokenizer.escape_token
    tokens, last, run = jnp.asarray(prompt, jnp.int32), len(prompt) - 1, jax.jit(trace)
    final, layers = run(model, tokens)
    logits = jax.jit(logits_of)(model, final)[last]
    candidates = [*answers]
    if patch is not None:
        other_final, other_layers = run(model, jnp.asarray(patch, jnp.int32))
        candidates += [int(logits.argmax()), int(jax.jit(logits_of)(model, other_final)[last].argmax())]
    candidates += jax.lax.top_k(logits, 3)[1].tolist()
    pair = jnp.array(list(dict.fromkeys(candidates))[:2])
    probabilities = jax.nn.softmax(logits)
    ids, shares = apply_lens(model, jnp.concatenate([layers.residual, final[None]]), k=LENS_TOKENS)
    attribute = jax.jit(jax.vmap(attribute_logit, in_axes=(None, None, None, None, None, 0)))
    parts = jax.device_get(attribute(model, tokens, final, layers, last, pair))
    repeated = draw_repeated(np.arange(model.config.vocab_size), model.config.block_size)
    findings = {
        "tokens": [*map(spell, prompt)],
        "ids": [*prompt],
        "answers": [
            {"token": spell(id), "id": id, "logit": float(logits[id]), "probability": float(probabilities[id])}
            for id in pair.tolist()
        ],
        "lens": {
            "tokens": [[[*map(spell, top)] for top in layer] for layer in ids.tolist()],
            "ids": np.asarray(ids),
            "probabilities": np.asarray(shares),
        },
        "attribution": [{name: share[i] for name, share in parts._asdict().items()} for i in range(2)],
        "scores": jax.device_get(jax.jit(head_scores)(model, jnp.asarray(repeated))),
        "attention": np.asarray(layers.attention),
    }
    if patch is not None:
        is_short = len(prompt) <= MAX_PATCHED_POSITIONS
        with stage("patching"):
            findings["patching"] = {
                "tokens": [*map(spell, patch)],
                "ids": [*patch],
                "logit_differences": [float(logit_difference(model, each, pair)) for each in (final, other_final)],
                "heads": np.asarray(patch_heads(model, tokens, other_layers, pair)),
                "positions": np.asarray(patch_positions(model, tokens, other_layers, pair)) if is_short else None,
            }
    return findings


def print_findings(findings: dict[str, Any]) -> None:
    """The main numbers, a line each."""
    answer, other = findings["answers"]
    words = [f"{each['token']!r} ({each['probability']:.2%}, logit {each['logit']:.3f})" for each in (answer, other)]
    console.say("answer", f"{words[0]}, compared with {words[1]}")
    first, second = findings["attribution"]
    shares = {name: first[name] - second[name] for name in ("heads", "mlps")}
    parts = [(f"head {name_head(*at)}", shares["heads"][at]) for at in largest_heads(shares["heads"], SHOWN)]
    parts += [(f"mlp {layer}", share) for layer, share in enumerate(shares["mlps"])]
    parts = sorted(parts, key=lambda part: -abs(part[1]))[:SHOWN]
    console.say("made by", ", ".join(f"{name} {share:+.3f}" for name, share in parts))
    for name, scores in findings["scores"].items():
        console.say("heads", f"{name.replace('_', ' ')} score: {list_largest(scores, '.3f')}")
    if patching := findings.get("patching"):
        prompt, other = patching["logit_differences"]
        effects = list_largest(patching["heads"] - prompt, "+.3f")
        console.say("patching", f"logit difference {prompt:.3f} here, {other:.3f} there; by head: {effects}")


def list_largest(numbers: np.ndarray, form: str) -> str:
    """The heads whose numbers, (L, H), are farthest from 0, in a line."""
    return ", ".join(f"{name_head(*at)} {numbers[at]:{form}}" for at in largest_heads(numbers, SHOWN))


def format_json(findings: dict[str, Any]) -> str:
    """The findings as JSON; attention to four decimals, and null where it would be too much."""
    attention = findings["attention"]
    rounded = attention.astype(float).round(4) if attention.size <= MAX_ATTENTION else None
    return json.dumps(findings | {"attention": rounded}, default=lambda array: array.tolist()) + "\n"
