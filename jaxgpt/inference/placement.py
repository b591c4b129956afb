"""The device and dtype that a trained model computes with."""

from typing import Any

from jaxgpt.console import plural
from jaxgpt.data.cache import cache_folder
from jaxgpt.errors import require
from jaxgpt.models.configs import ModelConfig
from jaxgpt.runtime import device as devices

DEVICES, DTYPES = ("auto", "gpu", "cpu"), ("auto", "float32", "bfloat16")


def select_compute(
    config: ModelConfig, device: str = "auto", dtype: str = "auto", T: int | None = None
) -> tuple[dict, str]:
    """Select the device for a model of this shape; programs that are compiled for it are kept.

    Args:
      device: auto, gpu or cpu; dtype: auto, float32 or bfloat16.
      T: the longest sequence that it will read, in tokens; None: its context.

    Returns:
      runs.huggingface.load's arguments beside the weights, and the shape, dtype and device in words.

    Raises:
      UsageError: there is no such device or dtype, or the device has no bfloat16.
    """
    for flag, value, allowed in (("device", device, DEVICES), ("dtype", dtype, DTYPES)):
        require(value in allowed, flag, value, f"one of {', '.join(allowed)}")
    selected = devices.select(device)
    devices.keep_compiled(cache_folder() / "compiled")
    compute: dict[str, Any] = devices.compute(dtype, config.n_layer, config.head_size, T or config.block_size)
    return compute, f"{plural(config.n_layer, 'layer')}, width {config.n_embd}, {compute['dtype']}, on {selected}"
