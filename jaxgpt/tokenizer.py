"""Text <-> GPT-2 token ids, with no network: the ranks are in this package."""

import functools
import os
from pathlib import Path

import tiktoken
import tiktoken.load
from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

RANKS = Path(__file__).with_name("r50k_base.tiktoken")
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"  # as tiktoken publishes it
VOCAB_SIZE = 50257


@functools.cache
def gpt2() -> tiktoken.Encoding:
    """GPT-2's byte-pair encoding, 50,257 ids, `<|endoftext|>` = 50256 (Radford et al., 2019, section 2.2).

    Use `encode_ordinary` for a corpus: it takes a literal `<|endoftext|>` for text, not for a token.
    """
    # tiktoken copies what it loads, local files too, into TIKTOKEN_CACHE_DIR, which may be read-only; "" is no copy.
    users_cache = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    try:
        ranks = tiktoken.load.load_tiktoken_bpe(str(RANKS), RANKS_SHA256)
    finally:
        if users_cache is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = users_cache
    return tiktoken.Encoding(
        name="gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: VOCAB_SIZE - 1},
        explicit_n_vocab=VOCAB_SIZE,
    )
