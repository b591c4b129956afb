"""Where the numbers of TransformerLens in tests/inference/test_induction.py are from.

python -m tests.support.head_scores FOLDER                  # writes the model and the tokens
python tests/support/head_scores.py FOLDER                  # where transformer_lens 4.3 is installed: prints them
"""

import sys
from pathlib import Path

import numpy as np

T, SEQUENCES, VOCAB = 12, 3, 97


def repeated_tokens() -> np.ndarray:
    """Sequences of T different tokens, each twice, int32 (SEQUENCES, 2 T): detect_head counts any token before."""
    draw = np.random.default_rng(0)
    once = np.stack([draw.permutation(VOCAB)[:T] for _ in range(SEQUENCES)])
    return np.concatenate([once, once], axis=1).astype(np.int32)


def make_model():
    """A model with weights of numpy's, large enough that attention is far from even."""
    import jax

    from jaxgpt.models.base import shapes
    from jaxgpt.models.configs import GPT2Config

    draw = np.random.default_rng(1)
    config = GPT2Config(vocab_size=VOCAB, block_size=32, n_layer=2, n_head=4, n_embd=32)
    return jax.tree.map(lambda leaf: jax.numpy.asarray(draw.normal(0, 0.3, leaf.shape), "float32"), shapes(config))


def write(folder: Path) -> None:
    from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
    from jaxgpt.runs.huggingface import save_hf

    save_hf(make_model(), folder, (), GPT2_TOKENIZER.hugging_face_files(32))


def print_scores(folder: Path) -> None:
    import torch
    import transformers
    from transformer_lens import head_detector
    from transformer_lens.model_bridge import TransformerBridge

    hf_model = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
    model = TransformerBridge.boot_transformers(str(folder), hf_model=hf_model)
    rows = {"previous_token_head": 2 * T - 1, "induction_head": T}  # that can attend so; detect_head divides by all
    for name, count in rows.items():
        detection = getattr(head_detector, f"get_{name}_detection_pattern")
        scores = np.zeros((2, 4))
        for text in torch.tensor(repeated_tokens(), dtype=torch.long):
            _, cache = model.run_with_cache(text[None])
            for layer, head in np.ndindex(2, 4):
                pattern = cache["pattern", layer][0, head]
                scores[layer, head] += head_detector.compute_head_attention_similarity_score(
                    pattern,
                    detection_pattern=detection(text[None]),
                    exclude_bos=False,
                    exclude_current_token=False,
                    error_measure="mul",
                )
        print(name, (scores / SEQUENCES * 2 * T / count).round(6).tolist())


if __name__ == "__main__":
    (write if __package__ else print_scores)(Path(sys.argv[1]))
