"""Strings that break tokenizers, and whether they come back: `python -m tests.support.round_trips [10000]`.

Each tokenizer must decode what it has encoded, whatever the text, and the library `tokenizers` and `transformers`'
AutoTokenizer must give the same ids.
"""

import functools
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tokenizers

from jaxgpt.data import json_tokenizers
from jaxgpt.data.encoder_tokenizer import EncoderTokenizer, for_encoder
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.data.tokenizer import ENDOFTEXT, Tokenizer

WORDS = [ENDOFTEXT, ENDOFTEXT[:-1], "|>", "</s>", "<|im_start|>", "Ġ", "Ċ", "▁", "\ufeff", "\ufffd", "\uffff", "\0"]
WORDS += ["'s", "'LL", "don't", " the", "THE", "\r\n", "\n\n", "\u2028", "\u200b", "\u3000", "\x1c", "\x85", "\u200d"]
WORDS += [
    "e\u0301",
    "\u0644\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea",
    "\U0001d7d8\U0001d7d9",
    "१२",
    "ﬁ",
    "İ",
]
RANGES = [
    (0, 0x80),
    (0x80, 0x250),
    (0x300, 0x370),
    (0x590, 0x700),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A4),
    (0xE000, 0xF900),
]
RANGES += [(0x1F300, 0x1FAFF), (0x10FF00, 0x110000), (0xFFF0, 0x10000), (0x2000, 0x2070)]


def nasty_strings(count: int, seed: int = 0) -> Iterator[str]:
    draw = random.Random(seed)
    for _ in range(count):
        pieces = []
        for _ in range(draw.choice([0, 1, 2, 3, 5, 20])):
            low, high = draw.choice(RANGES)
            kind, run = draw.random(), draw.choice([1, 1, 2, 3, 50])
            pieces.append((draw.choice(WORDS) if kind < 0.5 else chr(draw.randrange(low, high))) * run)
            pieces.append(draw.choice(["", "", " ", "  ", "\n", "\t", "7", "1234567"]))
        yield "".join(pieces)


def train_tokenizer(vocab_size: int = 400) -> json_tokenizers.BPETokenizer:
    return json_tokenizers.train(nasty_strings(300, seed=1), vocab_size)


def check(tokenizer: Tokenizer, texts: list[str], transformers: bool = False) -> None:
    """Refuse a tokenizer that does not give a text back, or whose ids are not those of Hugging Face's libraries.

    Args:
      transformers: whether to ask that one too, which takes seconds to import.
    """
    content = tokenizer.hugging_face_files()
    library = tokenizers.Tokenizer.from_str(content["tokenizer.json"])
    auto = load_auto(content) if transformers else None
    for text in texts:
        ids, prompt = tokenizer.encode(text), tokenizer.encode_prompt(text)
        assert ids.dtype == tokenizer.dtype and (not len(ids) or ids.max() < tokenizer.vocab_size), repr(text)
        assert tokenizer.decode(ids.tolist()) == text == tokenizer.decode(prompt), repr(text)
        special = sum(len(tokenizer.token_bytes(id)) for id in prompt if id in tokenizer.special_tokens)
        assert tokenizer.byte_lengths[ids].sum() == len(text.encode()) == tokenizer.byte_lengths[prompt].sum() + special
        assert tokenizer.end is None or tokenizer.end not in ids, repr(text)
        assert library.encode(text, add_special_tokens=False).ids == prompt, repr(text)
        if auto:
            assert auto(text, add_special_tokens=False)["input_ids"] == prompt, repr(text)


def make_bert(folder: Path, lower_case: bool = True):
    """`transformers`' BertTokenizer of a WordPiece vocabulary trained here, which it has saved in a folder."""
    import transformers

    trainer = tokenizers.BertWordPieceTokenizer(lowercase=lower_case)
    trainer.train_from_iterator([*nasty_strings(300, seed=1), "the cat sat on a mat, sitting unaffable"] * 3, 400)
    bert = transformers.BertTokenizer(vocab=trainer.get_vocab(), do_lower_case=lower_case)
    bert.save_pretrained(folder)
    return bert


def make_roberta(folder: Path):
    """As make_bert, `transformers`' RobertaTokenizer."""
    import transformers

    model = train_tokenizer().definition()["model"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(token for token in model["vocab"] if token != ENDOFTEXT), "<mask>"]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    roberta = transformers.RobertaTokenizer(vocab={token: id for id, token in enumerate(tokens)}, merges=merges)
    roberta.save_pretrained(folder)
    return roberta


def check_encoder(tokenizer: EncoderTokenizer, theirs, texts: list[str]) -> None:
    """Refuse an encoder's tokenizer whose ids are not those of the one of `transformers` that it was read from."""
    for text in texts:
        ids = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert tokenizer.encode(text).tolist() == ids, repr(text)
        assert tokenizer.encode_prompt(text) == theirs(text, add_special_tokens=False)["input_ids"], repr(text)


def load_auto(content: dict[str, str]):
    """`transformers`' tokenizer of an export."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        for name, text in content.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        return transformers.AutoTokenizer.from_pretrained(folder)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    texts = list(nasty_strings(count))
    chars = [CharTokenizer.of(texts, has_end) for has_end in (False, True)]
    for tokenizer in (ByteTokenizer(), train_tokenizer(), train_tokenizer(2000), *chars):
        check(tokenizer, texts, transformers=True)
        print(f"{tokenizer.name}, {tokenizer.vocab_size:,} ids: {count:,} strings came back, with the same ids")
    for tokenizer in map(for_encoder, (ByteTokenizer(), train_tokenizer())):
        check(tokenizer, texts, transformers=True)
        auto = load_auto(tokenizer.hugging_face_files())
        check_encoder(tokenizer, auto, [text.replace("</s>", "<mask>") for text in texts])
        print(f"{tokenizer.name} with a mask: {count:,} strings came back, with the same ids")
    for make in (make_bert, functools.partial(make_bert, lower_case=False), make_roberta):
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = make(Path(folder)), for_encoder(open_tokenizer(folder))
        check_encoder(ours, theirs, [*texts, *(text.replace("</s>", theirs.mask_token) for text in texts)])
        print(f"{type(theirs).__name__}, {ours.vocab_size:,} ids: {2 * count:,} strings have the same ids")


if __name__ == "__main__":
    main()
