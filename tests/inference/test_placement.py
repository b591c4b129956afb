import pytest

from jaxgpt.errors import UsageError
from jaxgpt.inference.placement import select_compute
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runtime import device


def test_a_model_is_told_where_and_how_it_computes(monkeypatch, cache):
    asked, config = [], GPT2Config(block_size=64, n_layer=2, n_head=2, n_embd=20)
    real = device.compute
    monkeypatch.setattr(device, "compute", lambda *words: asked.append(words) or real(*words))
    compute, described = select_compute(config)
    assert compute["dtype"] == "float32" and described.startswith("2 layers, width 20, float32, on CPU, ")
    select_compute(config, dtype="float32", T=16)
    assert asked == [("auto", 2, 10, 64), ("float32", 2, 10, 16)]
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    with pytest.raises(UsageError, match="no usable NVIDIA GPU"):
        select_compute(config, device="gpu")
