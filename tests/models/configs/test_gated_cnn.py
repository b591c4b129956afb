import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GatedCNNConfig
from tests.support.flags import from_words


def test_the_flags_of_its_shape():
    assert from_words(["--arch", "gated_cnn"]).model_config() == GatedCNNConfig()
    tiny = from_words(["--arch=gated_cnn", "--size", "tiny", "--kernel-size", "7"]).model_config()
    assert tiny == GatedCNNConfig(n_layer=4, n_embd=64, bottleneck=32, kernel_size=7)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--n-head", "4"], "--n-head 4: --arch gated_cnn has no such flag; its shape is --block-size, --n-layer"),
        (["--lora", "2"], "--lora 2: --arch gated_cnn has no such flag"),
        (["--predict-tokens", "2"], "--predict-tokens 2: --arch gated_cnn has no such flag"),
        (["--size", "gpt2-xl"], "--size gpt2-xl: --arch gated_cnn has no such size"),
        (["--kernel-size", "0"], "--kernel-size 0 is out of range: it must be at least 1"),
        (
            ["--bottleneck", "6", "--mesh", "fsdp=4"],
            "--bottleneck 6 must be divisible by the fsdp axis of --mesh fsdp=4",
        ),
        (["--arch", "gpt2", "--kernel-size", "3"], "--kernel-size 3: --arch gpt2 has no such flag"),
    ],
)
def test_a_flag_that_does_not_fit_is_named(words, message):
    with pytest.raises(UsageError) as error:
        from_words(["--arch", "gated_cnn", *words])
    assert str(error.value).startswith(message)
