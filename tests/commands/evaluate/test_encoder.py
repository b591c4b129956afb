"""Which windows of a text are measured; inference/test_pseudo_likelihood.py has the numbers."""

from jaxgpt.commands.evaluate import encoder
from jaxgpt.commands.evaluate.config import EvaluateConfig
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.models.configs import BertConfig
from jaxgpt.runs.weights import WeightsRef
from tests.support.models import random_model


class Encoder(WeightsRef):
    tokenizer = for_encoder(ByteTokenizer())


def test_every_window_is_measured_or_so_many(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("a" * 60)
    source = Encoder("encoder", BertConfig(block_size=8, n_layer=1, n_head=2, n_embd=16, vocab_size=260), False, None)
    model = random_model(source.config)
    for most, count, tokens in ((3, 3, 14), (None, 8, 44)):  # beside two special ones a window; the last has 4
        config = EvaluateConfig("encoder", str(tmp_path / "text.txt"), max_windows=most)
        found = encoder.prepare(config, source)(lambda T: model)
        assert (found["measure"], found["windows"], found["n"]) == ("pseudo-log-likelihood", count, tokens)
        assert found["loss"] > 0 and f"{count} of its 8 windows of 8, each token" in capsys.readouterr().out
