import re

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import LlamaConfig
from jaxgpt.training.config import TrainConfig
from tests.support.flags import from_words


def test_the_flags_of_its_shape():
    config = from_words(["--arch", "llama"]).model_config()
    assert config == LlamaConfig() and (config.n_kv_head, config.head_size, config.intermediate_size) == (12, 64, 2048)
    small = from_words(["--arch=llama", "--size", "smollm2-135m", "--T", "2048", "--lora", "4"]).model_config()
    assert (small.n_layer, small.n_kv_head, small.rope_theta, small.block_size) == (30, 3, 1e5, 8192)
    assert small.adapts("q_proj") and small.adapts("v_proj") and not small.adapts("o_proj")
    words = ["--n-kv-head", "2", "--head-size", "6", "--qkv-bias", "--rope-scaling", "8,1,4,64", "--norm-eps", "1e-6"]
    given = from_words(["--arch", "llama", "--size", "tiny", *words]).model_config()
    shape = {"n_kv_head": 2, "head_size": 6, "qkv_bias": True, "rope_scaling": "8,1,4,64", "norm_eps": 1e-6}
    assert given == LlamaConfig(n_layer=2, n_head=4, n_embd=64, **shape)
    assert TrainConfig.of(arch="llama", n_embd=24, n_head=2).model_config().lora_on == "q_proj,v_proj"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--predict-tokens", "2"], "--predict-tokens 2: --arch llama has no such flag"),
        (["--kernel-size", "2"], "--kernel-size 2: --arch llama has no such flag"),
        (["--n-kv-head", "5"], "--n-head 12 can't be split over --n-kv-head 5 heads of keys and values"),
        (["--n-kv-head", "0"], "--n-kv-head 0 is out of range: it must be at least 1"),
        (["--head-size", "3"], "--head-size 3 is odd"),
        (["--n-embd", "100"], "--n-embd 100 can't be split over --n-head 12 heads"),
        (["--rope-scaling", "8,1,4"], "--rope-scaling 8,1,4 is out of range: it must be none, or four numbers above 0"),
        (["--rope-theta", "0"], "--rope-theta 0.0 is out of range: it must be a finite number above 0"),
        (["--lora", "2", "--lora-on", "c_attn"], "--lora-on c_attn: no layer is called 'c_attn'; use q_proj, k_proj"),
        (["--size", "gpt2-xl"], "--size gpt2-xl: --arch llama has no such size"),
        (["--probe", "induction"], "--probe induction reads the heads of a GPT-2"),
        (["--mesh", "fsdp=5"], "--B 4 must be divisible by the 5 devices of --mesh fsdp=5"),
        (["--arch", "gpt2", "--qk-norm"], "--qk-norm True: --arch gpt2 has no such flag"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_flag_that_does_not_fit_is_named(words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        from_words(["--arch", "llama", *words])
