"""A small model of GPT-2's vocabulary, and small tasks of the lm-evaluation-harness with their data."""

import json
import random

import jax
import numpy as np

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import save_hf

NEEDS_HARNESS = "needs the harness: pip install 'lm-eval>=0.4.13'"
CONFIG = GPT2Config(block_size=64, n_layer=2, n_head=2, n_embd=32)
WORDS = "the sky is blue , and na\u00efve \u65e5\u672c\u8a9e fish don't swim ? Q: A: 1984 \U0001f642 <|endoftext|> so"
YAML = """
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: {output_type}
doc_to_text: {text}
doc_to_target: {target}
metric_list:
"""


def words(rng, least, most):
    return " ".join(rng.choices(WORDS.split(), k=rng.randint(least, most)))


def export(folder):
    """A small GPT-2 with the true vocabulary, whose greedy texts are no single word over and over."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: GPT2(CONFIG, jax.random.key(0)))
    save_hf(jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), shapes), folder)
    for name, content in GPT2_TOKENIZER.hugging_face_files(CONFIG.block_size).items():
        (folder / name).write_text(content, encoding="utf-8")


def write(folder):
    """Four tasks with their data: one for each kind of request, with items that are too long for the model too."""
    rng = random.Random(0)
    folder.mkdir()

    def add(task, output_type, text, target, records, metrics, more=""):
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        yaml = YAML.format(
            task=task,
            data=folder / f"{task}.jsonl",
            cache=folder / "cache",
            output_type=output_type,
            text=text,
            target=target,
        )
        yaml += "".join(f"  - {{metric: {metric}, aggregation: {how}}}\n" for metric, how in metrics.items())
        (folder / f"{task}.yaml").write_text(yaml + more)

    items = [
        {
            "context": words(rng, 1, 60) + rng.choice(["", " ", "\n"]),
            "choices": [words(rng, 1, 9) for _ in range(rng.randint(2, 4))],
            "answer": rng.randint(0, 1),
        }
        for _ in range(8)
    ]
    means = {"acc": "mean", "acc_norm": "mean"}
    add("choose", "multiple_choice", "context", "answer", items, means, "doc_to_choice: choices\n")
    texts = [{"text": words(rng, 0, 70), "last": " " + words(rng, 1, 2)} for _ in range(6)]
    add("last_word", "loglikelihood", "text", "last", texts, {"acc": "mean", "perplexity": "perplexity"})
    questions = [{"question": words(rng, 1, 70), "answer": words(rng, 1, 2)} for _ in range(5)]
    more = 'generation_kwargs: {until: ["\\n\\n", " a"], max_gen_toks: 12}\n'
    add("write", "generate_until", "question", "answer", questions, {"exact_match": "mean"}, more)
    long = [{"text": words(rng, 1, 200)} for _ in range(5)]
    rolling = {"word_perplexity": "weighted_perplexity", "bits_per_byte": "bits_per_byte"}
    add("rolling", "loglikelihood_rolling", '""', "text", long, rolling)
