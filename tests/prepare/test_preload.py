import multiprocessing

from jaxgpt.data import gpt2_tokenizer
from jaxgpt.prepare import forkserver


def count_loaded_tokenizers():
    return gpt2_tokenizer.encoding.cache_info().currsize


def test_workers_have_the_tokenizer_from_the_start():
    with forkserver.run_forkserver(), multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.apply(count_loaded_tokenizers) == 1
