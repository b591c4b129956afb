"""An encoder's special tokens, and the tokenizers of BERT and RoBERTa, beside those of transformers."""

import functools
import json

import pytest

from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import keep, open_tokenizer, read_kept
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.errors import DataError
from tests.support import golden, round_trips

MAKERS = {
    "bert": round_trips.make_bert,
    "cased": functools.partial(round_trips.make_bert, lower_case=False),
    "roberta": round_trips.make_roberta,
}


@pytest.mark.parametrize("name", MAKERS)
def test_berts_and_robertas_tokenizers_have_the_ids_of_transformers(name, tmp_path):
    pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    theirs = MAKERS[name](tmp_path)
    ours = for_encoder(open_tokenizer(str(tmp_path)))
    masked = f"a {theirs.mask_token} b{theirs.sep_token}"
    round_trips.check_encoder(ours, theirs, [*round_trips.nasty_strings(100, seed=5), masked])
    ids = (theirs.mask_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.pad_token_id)
    assert (ours.mask, ours.cls, ours.sep, ours.pad, ours.vocab_size) == (*ids, len(theirs))
    assert {*ids} <= {*ours.special_tokens}
    text = "the cat\n".join(round_trips.nasty_strings(50, seed=6))
    pieces = list(ours.split(text, 20))
    assert len(pieces) > 9 and [id for piece in pieces for id in ours.encode(piece)] == ours.encode(text).tolist()


@pytest.mark.parametrize("name", [*MAKERS, "bytes", "bpe", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_a_kept_one_is_the_same_and_transformers_reads_it(name, tmp_path):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    if name in MAKERS:
        MAKERS[name](tmp_path / "theirs")
        decoder = open_tokenizer(str(tmp_path / "theirs"))
    else:
        decoder = {"bytes": ByteTokenizer(), "gpt2": GPT2_TOKENIZER}.get(name) or round_trips.train_tokenizer()
    ours, folder = for_encoder(decoder), tmp_path / "kept"
    folder.mkdir()
    keep(ours, folder)
    kept = read_kept(folder, ours.sha256)
    assert kept == ours and for_encoder(open_tokenizer(str(folder))) == ours and ours.sha256 != decoder.sha256
    assert open_tokenizer(str(folder)) == decoder == kept.inner
    assert (kept.text_sha256, kept.cache_name, kept.dtype) == (decoder.sha256, decoder.cache_name, decoder.dtype)
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    begin, between, end = ours.template
    for text in ("the cat sat", "", "ÿ <|endoftext|"):
        a, b = ours.encode(text).tolist(), ours.encode("unaffable").tolist()
        found = auto(text, "unaffable")
        assert found["input_ids"] == [*begin, *a, *between, *b, *end]
        assert found["token_type_ids"] == [0] * len([*begin, *a, *between]) + [1] * len([*b, *end])
        assert auto(text)["input_ids"] == [*begin, *a, *end]
    assert auto.mask_token_id == ours.mask
    masked = f"a {auto.mask_token}"
    assert auto(masked, add_special_tokens=False)["input_ids"] == ours.encode_prompt(masked)
    if ours.mask == decoder.vocab_size:
        assert ours.encode_prompt("a <mask>b") == [*decoder.encode("a"), ours.mask, *decoder.encode("b")]
        assert ours.decode([*decoder.encode("a"), ours.mask]) == "a<mask>"
        assert ours.byte_lengths.tolist() == [*decoder.byte_lengths, 0]
        round_trips.check(ours, list(round_trips.nasty_strings(30, seed=7)))


def test_a_mask_in_a_decoders_file_changes_no_hash(tmp_path):
    trained = round_trips.train_tokenizer(300)
    content = trained.definition()
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 300, "content": "<mask>"})
    hashes = []
    for settings in ({}, {"mask_token": "<mask>", "cls_token": "a"}, {"mask_token": "nothing"}):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        hashes.append(open_tokenizer(str(tmp_path)).sha256)
        encoder = for_encoder(open_tokenizer(str(tmp_path)))
        assert (encoder.mask, encoder.vocab_size) == (300, 301)
        assert encoder.cls == (trained.encode("a")[0] if "cls_token" in settings else trained.end)
    assert len({*hashes}) == 1 and hashes[0] != trained.sha256


def test_what_an_encoder_or_a_decoder_cannot_use_is_refused_in_a_line(tmp_path):
    with pytest.raises(DataError, match="chars has no token that hides another, which encoders need; use bytes"):
        for_encoder(CharTokenizer("ab", True))
    words = {word: id for id, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "a", "m"])}
    content = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}}
    content["model"] |= {"max_input_chars_per_word": 100, "vocab": words}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": []} | content))
    settings = {"cls_token": "[CLS]", "sep_token": {"content": "[SEP]"}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(settings))
    with pytest.raises(
        DataError, match=r"WordPiece with no token that is its mask; name it in .*\{\"mask_token\": \"TOKEN\"\}"
    ):
        open_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": "m"}))
    found = open_tokenizer(str(tmp_path))
    assert found.encoder_ids() == (4, 1, 2, None)
    with pytest.raises(DataError, match=r"wordpiece drops spaces.*; give the tokenizer\.json of a byte-level"):
        found.for_decoder()
    with pytest.raises(DataError, match="has no number of bytes for each token"):
        _ = found.byte_lengths
