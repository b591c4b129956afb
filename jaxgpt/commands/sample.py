"""Write text with a trained model: `jaxgpt sample runs/default --prompt "Once upon a time"`."""

import codecs
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from jaxgpt import console
from jaxgpt.commands.flags import parse, positional, require_sampling
from jaxgpt.data.documents import normalize
from jaxgpt.data.records import is_unicode
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError, require
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.generate import Chunk


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Write text with a trained model: a prompt and what follows it.

    A text ends with its document or after --max-new-tokens. One that outgrows the model's context drops the older half
    of it, each time that it is full, and continues.
    """

    model: Annotated[str, *positional("MODEL")]
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    prompt: str
    """The text to continue; - reads it from stdin. <|endoftext|> in it is the token that ends a document."""
    n: int = 1
    """How many texts. They are generated together; the first is shown meanwhile, the others after it."""
    max_new_tokens: int = 100
    """At most this many tokens each, without the prompt."""
    temperature: float = 0.8
    """Below 1, likely tokens become likelier still; 0 takes the likeliest always (greedy)."""
    top_k: int = 50
    """Sample among the k likeliest tokens; 0: among all."""
    top_p: float = 1.0
    """Sample among the fewest likeliest tokens that have this probability together; 1: among all."""
    seed: int = 0
    """Random seed: the same seed writes the same texts."""
    speculate: bool = False
    """Fewer forward passes, with --temperature 0 and a model trained with --predict-tokens: its other heads draft
    tokens, the first one checks them. The text is the same."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        if not self.prompt:
            raise UsageError("--prompt is empty: give it some text; '<|endoftext|>' begins a document from nothing")
        if not is_unicode(self.prompt):  # what Python makes of other bytes
            raise UsageError("--prompt is not UTF-8; set the terminal to UTF-8, or convert the text with iconv")
        require(1 <= self.n <= 10**6, "n", self.n, "from 1 to 1,000,000")
        require_sampling(self)
        if self.speculate and self.temperature > 0:
            raise UsageError("--speculate needs --temperature 0; add it, or leave --speculate out")


def main(argv: Sequence[str]) -> int:
    config = parse(SampleConfig, argv, command="sample")
    source = resolve_weights(config.model)
    require_text_model(source)
    if config.speculate and source.config.predict_tokens == 1:
        raise UsageError(
            f"--speculate: {config.model} predicts one token, and has no heads that draft; leave --speculate out, "
            "or name a run that was trained with --predict-tokens"
        )
    prompt = read_stdin() if config.prompt == "-" else config.prompt
    context, tokenizer = source.config.block_size, source.tokenizer
    ids = tokenizer.encode_prompt(prompt)
    if len(ids) > context:
        raise UsageError(f"--prompt has {len(ids):,} tokens, more than the model's context of {context:,}; shorten it")

    import jax

    from jaxgpt.inference import placement
    from jaxgpt.inference.generate import stream
    from jaxgpt.inference.sampling import make_sampling_params, prompt_keys
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    compute, described = placement.select_compute(source.config, config.device, config.dtype)
    console.note(f"{config.model}: {described}")
    if len(ids) + config.max_new_tokens > context:
        console.note(
            f"longer than the model's context of {context:,} tokens: when it is full, its older half is dropped"
        )
    prompts = [ids] * config.n
    with device.memory_errors("use a smaller --n"):
        new = stream(
            load(source, **compute),
            prompts,
            config.max_new_tokens,
            make_sampling_params(config.temperature, config.top_k, config.top_p, stop=tokenizer.end),
            prompt_keys(jax.random.key(config.seed), prompts),
            chunk_size=1,
            speculate=config.speculate,
        )
        with stage("compiling, and reading the prompt"):
            first = list(itertools.islice(new, 1))
        with stage("tokens", config.max_new_tokens, prints=True) as advance:
            tokens, last = print_texts(prompt, itertools.chain(first, new), config.n, tokenizer, advance)
    if last and last.accepted:
        console.note(format_speculation(tokens, last))
    return 0


def read_stdin() -> str:
    """The prompt from stdin, without the newline at its end."""
    content = sys.stdin.buffer.read() if sys.stdin else b""  # None: closed
    try:
        prompt = normalize(content.decode("utf-8")).removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--prompt -: not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}; "
            "convert it first, for example: iconv -f latin1 -t utf-8"
        ) from None
    if not prompt:
        raise UsageError("--prompt -: there was nothing in stdin; give it some text")
    return prompt


def print_texts(
    prompt: str,
    chunks: "Iterator[Chunk]",
    n: int,
    tokenizer: Tokenizer,
    advance: Callable[[int], None] = lambda tokens: None,
) -> "tuple[int, Chunk | None]":
    """Print n texts as their tokens come: the first at once, the others when it has ended, with a rule between them.

    A character whose bytes are spread over several tokens is printed when it is whole. Returned are the number of new
    tokens and the last chunk.
    """
    new, chunk = 0, None
    decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(n)]
    hidden = [[prompt] for _ in range(n - 1)]
    shown = console.escape_for_terminal
    print(shown(prompt), end="", flush=True)
    for chunk in chunks:
        pairs = zip(decoders, chunk.tokens, strict=True)
        texts = [decoder.decode(tokenizer.decode_bytes(ids)) for decoder, ids in pairs]
        new += sum(map(len, chunk.tokens))
        advance(max(map(len, chunk.tokens)))
        print(shown(texts[0]), end="", flush=True)
        for parts, text in zip(hidden, texts[1:], strict=True):
            parts.append(text)
    ends = [decoder.decode(b"", final=True) for decoder in decoders]
    print(shown(ends[0]))
    for parts, end in zip(hidden, ends[1:], strict=True):
        print("-" * 80, shown("".join(parts) + end), sep="\n")
    return new, chunk


def format_speculation(tokens: int, chunk: "Chunk") -> str:
    """Tokens per forward pass, and each head's share of accepted drafts."""
    passes = chunk.forwards
    heads = ", ".join(f"head {head} {count / passes:.0%}" for head, count in enumerate(chunk.accepted, 2))
    counted = console.plural(passes, "pass", "passes")
    return f"{tokens / passes:.2f} tokens per forward pass; accepted drafts: {heads} of {counted}"
