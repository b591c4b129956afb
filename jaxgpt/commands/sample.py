"""Write text with a trained model: `jaxgpt sample runs/default --prompt "Once upon a time"`."""

import codecs
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from jaxgpt import console
from jaxgpt.commands.flags import parse, place
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import UsageError, require
from jaxgpt.runs.weights import resolve_text_weights
from jaxgpt.runtime.signals import stop_signals

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.generate import Piece


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Write text with a trained model: a prompt and what follows it.

    A text ends with its document or after --max-new-tokens. One that outgrows the model's context loses the older half
    of it, as often as it is full, and goes on from the rest.
    """

    model: Annotated[str, *place("MODEL")]
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    prompt: str
    """The text to go on from; - reads it from stdin. <|endoftext|> in it is the token that ends a document."""
    n: int = 1
    """How many texts. They are made at the same time; the first is shown meanwhile, the others after it."""
    max_new_tokens: int = 100
    """The longest that each may get, in tokens, without the prompt."""
    temperature: float = 0.8
    """Below 1, likely tokens become likelier still; 0 takes the likeliest always (greedy)."""
    top_k: int = 50
    """Draw among the k likeliest tokens alone; 0: among all."""
    top_p: float = 1.0
    """Draw among the fewest likeliest tokens that have this probability together; 1: among all."""
    seed: int = 0
    """Seed of the draws: the same seed writes the same texts."""
    speculate: bool = False
    """Fewer passes, with --temperature 0 and a model trained with --predict-tokens: its further heads guess, the first
    one checks. The text is the same."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        if not self.prompt:
            raise UsageError("--prompt is empty: give it some text; '<|endoftext|>' begins a document from nothing")
        if any("\ud800" <= character <= "\udfff" for character in self.prompt):  # what Python makes of other bytes
            raise UsageError("--prompt is not UTF-8; set the terminal to UTF-8, or convert the text with iconv")
        for name in ("n", "max_new_tokens"):
            require(1 <= getattr(self, name) <= 10**6, name, getattr(self, name), "from 1 to 1,000,000")
        require(0 <= self.temperature < float("inf"), "temperature", self.temperature, "a finite number, 0 or above")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, and at most 1")
        for name in ("top_k", "seed"):
            require(0 <= getattr(self, name) < 2**31, name, getattr(self, name), "from 0 to 2**31 - 1")
        if self.speculate and self.temperature > 0:
            raise UsageError("--speculate finds the likeliest tokens; add --temperature 0, or leave --speculate out")


def main(argv: Sequence[str]) -> int:
    config = parse(SampleConfig, argv, command="sample")
    source = resolve_text_weights(config.model)
    if config.speculate and source.config.predict_tokens == 1:
        raise UsageError(
            f"--speculate: {config.model} predicts one token, and has no heads to guess with; leave --speculate out, "
            "or name a run that train.py made with --predict-tokens"
        )
    prompt = read_stdin() if config.prompt == "-" else config.prompt
    context = source.config.block_size
    try:
        ids = gpt2().encode(prompt, allowed_special="all")
    except ValueError:  # its pattern has no room for a million spaces in a row
        raise UsageError("--prompt can't be read: one word or blank in it is too long; shorten it") from None
    if len(ids) > context:
        raise UsageError(f"--prompt has {len(ids):,} tokens, more than the model's context of {context:,}; shorten it")

    import jax

    from jaxgpt.inference import placement
    from jaxgpt.inference.generate import stream
    from jaxgpt.inference.sampling import settings
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    compute, described = placement.place(source.config, config.device, config.dtype)
    console.note(f"{config.model}: {described}")
    if len(ids) + config.max_new_tokens > context:
        console.note(
            f"longer than the model's context of {context:,} tokens: when it is full, its older half is forgotten"
        )
    with device.memory_errors("use a smaller --n"), stop_signals("token") as stopping:
        new = stream(
            load(source, **compute),
            [ids] * config.n,
            config.max_new_tokens,
            settings(config.temperature, config.top_k, config.top_p, stop=gpt2().eot_token),
            jax.random.key(config.seed),
            every=1,
            speculate=config.speculate,
        )
        tokens, last = show(prompt, itertools.takewhile(lambda _: not stopping, new), config.n)
    if last and last.kept:
        console.note(speculation(tokens, last))
    return 128 + stopping[0] if stopping else 0


def read_stdin() -> str:
    """The prompt that stands in stdin, without the newline at its end."""
    content = sys.stdin.buffer.read() if sys.stdin else b""  # None: closed
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not content:
        raise UsageError("--prompt -: there was nothing in stdin; give it some text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--prompt -: not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}"
        ) from None


def show(prompt: str, pieces: "Iterator[Piece]", n: int) -> "tuple[int, Piece | None]":
    """Print n texts as their tokens come: the first at once, the others when it has ended, with a rule between them.

    A character whose bytes are spread over several tokens is printed when it is whole. Returned are the number of new
    tokens and the last piece.
    """
    new, piece = 0, None
    decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(n)]
    others = [[prompt] for _ in range(n - 1)]
    print(prompt, end="", flush=True)
    for piece in pieces:
        texts = [decoder.decode(gpt2().decode_bytes(ids)) for decoder, ids in zip(decoders, piece.tokens, strict=True)]
        new += sum(map(len, piece.tokens))
        print(texts[0], end="", flush=True)
        for other, text in zip(others, texts[1:], strict=True):
            other.append(text)
    ends = [decoder.decode(b"", final=True) for decoder in decoders]
    print(ends[0])
    for other, end in zip(others, ends[1:], strict=True):
        print("-" * 80, "".join(other) + end, sep="\n")
    return new, piece


def speculation(tokens: int, piece: "Piece") -> str:
    """What came of the guesses for so many new tokens."""
    passes = piece.forwards
    heads = ", ".join(f"head {head} in {kept / passes:.0%}" for head, kept in enumerate(piece.kept, 2))
    return f"{tokens / passes:.2f} tokens a forward pass; the guess was right of {heads} of {passes:,} passes"
