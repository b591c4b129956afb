import pytest

from jaxgpt.errors import UsageError
from jaxgpt.inference.placement import place
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runtime import device


def test_a_model_is_told_where_and_how_it_computes(monkeypatch, cache):
    asked, config = [], GPT2Config(block_size=64, n_layer=2, n_head=2, n_embd=20)
    real = device.compute
    monkeypatch.setattr(device, "compute", lambda *words: asked.append(words) or real(*words))
    compute, described = place(config)
    assert compute["dtype"] == "float32" and described.startswith("2 layers, width 20, float32, on CPU, ")
    place(config, dtype="float32", T=16)
    assert asked == [("auto", 2, 10, 64), ("float32", 2, 10, 16)]
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    with pytest.raises(UsageError, match="no usable NVIDIA GPU"):
        place(config, device="gpu")
