"""jaxgpt in a notebook: `jaxgpt.load`, `jaxgpt.generate`, `jaxgpt.score`. Text in, text out; or token ids.

model = jaxgpt.load("gpt2")
print(jaxgpt.generate(model, "Once upon a time", max_new_tokens=40, temperature=0.8, seed=1))
"""

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Literal

import jax

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.inference import generate as generation
from jaxgpt.inference import score as scoring
from jaxgpt.inference.placement import select_compute
from jaxgpt.models.base import Model
from jaxgpt.runs import huggingface
from jaxgpt.runs.weights import require_text_model, resolve_weights

Text = str | Sequence[int]  # or its token ids


def load(
    name_or_folder: str | Path,
    device: Literal["auto", "gpu", "cpu"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Model:
    """Load a trained model: a run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl.

    Args:
      name_or_folder: for a run folder, its newest checkpoint; RUN/checkpoints/300 is that one. OpenAI's models are
        downloaded once.
      device: auto takes an NVIDIA GPU if there is a usable one.
      dtype: of the computation; auto is bfloat16 on a GPU that has it, else float32.

    Raises:
      CheckpointError: there are no such weights, they are corrupt, or they predict labels instead of text.
      UsageError: there is no such device.
    """
    source = resolve_weights(name_or_folder)
    require_text_model(source)
    compute, _ = select_compute(source.config, device, dtype)
    return huggingface.load(source, **compute)


def load_tokenizer(name_or_folder: str | Path) -> Tokenizer:
    """The tokenizer of a trained model, by the name that `load` takes.

    Raises:
      CheckpointError: there are no such weights, or their tokenizer is not there.
    """
    return resolve_weights(name_or_folder).tokenizer


def generate(
    model: Model,
    prompts: Text | Sequence[Text],
    max_new_tokens: int = 100,
    temperature: float = 0.8,
    top_k: int = 50,
    top_p: float = 1.0,
    seed: int = 0,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> str | list[int] | list[str | list[int]]:
    """Continue a prompt, or several at once, each as if it were alone; as `jaxgpt sample` does with these flags.

    A text that outgrows the model's context drops its older half and continues.

    Args:
      prompts: a text or token ids, or a list of them. <|endoftext|> in a text is the token that ends a document.
      max_new_tokens: for each prompt; a text ends earlier with its document.
      temperature: 0 takes the likeliest token always.
      top_k: sample among the k likeliest tokens; 0: among all.
      top_p: sample among the fewest likeliest tokens that have this probability together; 1: among all.
      seed: random seed; the same seed writes the same texts.
      tokenizer: the model's, as `load_tokenizer` gives it.

    Returns:
      The continuation, without the prompt: a text for a text, token ids for token ids, a list for a list.

    Raises:
      UsageError: an argument is out of range, or a prompt is empty or longer than the model's context.
    """
    texts = [prompts] if _is_one(prompts) else list(prompts)
    new = generation.generate(
        model,
        [_encode(model, tokenizer, text) for text in texts],
        max_new_tokens,
        jax.random.key(seed),
        temperature,
        top_k,
        top_p,
        stop=tokenizer.end if _fits(model, tokenizer) else None,
    )
    pairs = zip(texts, new, strict=True)
    answers = [tokenizer.decode(ids) if isinstance(text, str) else ids for text, ids in pairs]
    return answers[0] if _is_one(prompts) else answers


def score(
    model: Model,
    texts: Text | Sequence[Text],
    context: Text = "<|endoftext|>",
    batch_size: int = 8,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> float | list[float]:
    """The log-likelihood of a text, or of several: the sum of the logarithms of its tokens' probabilities, in nats.

    Each token is predicted from the context and all tokens of the text before it. exp(-score / tokens) is the
    perplexity.

    Args:
      texts: a text or token ids, or a list of them.
      context: precedes the text and is not scored; by default the beginning of a document. Where both are
        longer than the model's context together, it loses its beginning.
      batch_size: texts at a time.
      tokenizer: the model's, as `load_tokenizer` gives it.

    Raises:
      UsageError: a text or the context is empty, or a text is longer than the model's context.
    """
    context_ids = _encode(model, tokenizer, context)
    requests = [(context_ids, _encode(model, tokenizer, text)) for text in ([texts] if _is_one(texts) else texts)]
    scores = [result.log_likelihood for result in scoring.score(model, requests, batch_size)]
    return scores[0] if _is_one(texts) else scores


def _is_one(texts: Text | Sequence[Text]) -> bool:
    if isinstance(texts, bytes | Mapping):  # such as what a tokenizer of transformers returns
        raise UsageError(f"give a text or token ids, or a list of them; not a {type(texts).__name__}")
    return isinstance(texts, str) or (len(texts) > 0 and isinstance(texts[0], Integral))


def _fits(model: Model, tokenizer: Tokenizer) -> bool:
    """Whether the ids are the model's: all of GPT-2's, and of another tokenizer perhaps fewer."""
    V = model.config.vocab_size
    return V == tokenizer.vocab_size or (V > tokenizer.vocab_size and tokenizer is not GPT2_TOKENIZER)


def _encode(model: Model, tokenizer: Tokenizer, text: Text) -> list[int]:
    if not isinstance(text, str):
        if isinstance(text, bytes) or not all(isinstance(token, Integral) for token in text):
            raise UsageError(f"a {type(text).__name__} that is neither a text nor token ids")
        return [int(token) for token in text]
    if not _fits(model, tokenizer):
        raise UsageError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size:,} token ids, and the model "
            f"{model.config.vocab_size:,}; give token ids, or tokenizer=jaxgpt.load_tokenizer(...) of the same folder"
        )
    return tokenizer.encode_prompt(text)
