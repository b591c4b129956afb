"""What the parity tests compare of a model beside transformers': gradients by name, files to the byte, and adapters."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxgpt.runs.huggingface import load_hf, save_hf
from jaxgpt.runs.weights import resolve_weights


def require_gradients_of(theirs, found, folder, labels=()):
    """Every gradient of a model of transformers is found to 1e-5 of its largest; `folder` is new, for those found."""
    wanted = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    save_hf(found, folder, labels)  # which has the names, and the way round
    for name, gradient in load_file(folder / "model.safetensors").items():
        expected = wanted.pop(name)
        atol = 1e-5 * max(1e-3, np.abs(expected).max())  # a key's bias has no effect: what it has is rounding
        np.testing.assert_allclose(gradient, expected, atol=atol, rtol=0, err_msg=name)
    assert not wanted


def save_again(ours, theirs, folder, labels=()):
    """The folder of a model that is the one loaded from the folder `theirs`: its tensors are the same to the byte."""
    save_hf(ours, folder, labels)
    files = [load_file(each / "model.safetensors") for each in (theirs, folder)]
    assert files[0].keys() == files[1].keys()
    assert all(files[0][name].tobytes() == files[1][name].tobytes() for name in files[0])
    assert load_hf(folder).config == ours.config
    return folder


def save_adapter(theirs, folder):
    """A model of transformers with an adapter of peft's on every linear layer, saved in `base` and `adapter`."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    theirs.save_pretrained(folder / "base")
    linear = [*resolve_weights(folder / "base").config.linear]
    with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # transformers' own, about peft
        model = peft.get_peft_model(theirs, peft.LoraConfig(r=2, lora_alpha=6, target_modules=linear))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.add_(0.1 * torch.randn_like(value))
    model.save_pretrained(folder / "adapter")
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(folder / "base")}))
    return model
