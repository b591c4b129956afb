"""What each worker needs, loaded by the process that they are forked from."""

from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.prepare import dedup, filters, tokenize  # noqa: F401

encoding()
