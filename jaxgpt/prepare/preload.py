"""What each worker needs, loaded by the process that they are forked from."""

from jaxgpt.data.tokenizer import gpt2
from jaxgpt.prepare import dedup, filters, tokenize  # noqa: F401

gpt2()
