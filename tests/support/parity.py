"""What the parity tests compare of a model beside transformers': gradients by name, and files to the byte."""

import numpy as np
from safetensors.numpy import load_file

from jaxgpt.runs.huggingface import load_hf, save_hf


def require_gradients_of(theirs, found, folder):
    """Every gradient of a model of transformers is found to 1e-5; `folder` is new, for those found."""
    wanted = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    save_hf(found, folder)  # which has the names, and the way round
    for name, gradient in load_file(folder / "model.safetensors").items():
        expected = wanted.pop(name)
        atol = 1e-5 * max(1, np.abs(expected).max())
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
