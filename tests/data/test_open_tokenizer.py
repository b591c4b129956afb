import json

import pytest

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, TEMPLATE
from jaxgpt.data.open_tokenizer import keep, open_tokenizer, read_kept
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.errors import DataError, UsageError
from tests.support import round_trips


@pytest.fixture(scope="module")
def trained():
    return round_trips.train_tokenizer(300)


def write(folder, content, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(content if isinstance(content, str) else json.dumps(content))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("gpt2", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_folder_gives_back_the_tokenizer_that_was_written(gpt2, trained, tmp_path):
    known = [ByteTokenizer(), CharTokenizer("\n ab"), CharTokenizer("ab", True), trained]
    known = [GPT2_TOKENIZER] if gpt2 else known
    for number, tokenizer in enumerate(known):
        for which, template in enumerate((None, TEMPLATE) if tokenizer.pad else (None,)):
            folder = tmp_path / f"{number}-{which}"
            folder.mkdir()
            template = template and tokenizer.template
            for name, text in tokenizer.hugging_face_files(64, template).items():
                (folder / name).write_text(text, encoding="utf-8")
            for name in (folder, folder / "tokenizer.json"):
                found = open_tokenizer(str(name))
                assert type(found) is type(tokenizer) and found.sha256 == tokenizer.sha256
                assert found.encode("ab").tolist() == tokenizer.encode("ab").tolist()
    assert len({each.sha256 for each in known}) == len(known)


def test_another_end_token_is_another_tokenizer(trained, tmp_path):
    content = json.loads(trained.hugging_face_files()["tokenizer.json"])
    content["model"]["vocab"]["<end>"] = trained.vocab_size  # which transformers makes a special one too
    found = open_tokenizer(str(write(tmp_path / "a", content, {"eos_token": {"content": "<end>"}})))
    assert found.token_bytes(found.end) == b"<end>" and found.sha256 != trained.sha256
    assert found.encode_prompt("<|endoftext|><end>") == [trained.end, found.end] and found.end not in found.encode(
        "<end>"
    )
    assert not found.byte_lengths[[trained.end, found.end]].any()


def test_a_kept_tokenizer_is_there_and_the_same(trained, tmp_path):
    keep(trained, tmp_path)
    assert read_kept(tmp_path, trained.sha256) == trained
    for sha256 in (None, GPT2_TOKENIZER.sha256):
        assert read_kept(tmp_path, sha256) == GPT2_TOKENIZER
    with pytest.raises(DataError, match=r"not the tokenizer of .*: its hash is .*, and 3 was kept; bring that"):
        read_kept(tmp_path, 3)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json: missing, and .* needs it; bring it back"):
        read_kept(tmp_path, trained.sha256)


def test_what_is_no_tokenizer_is_refused_in_a_line(trained, tmp_path):
    good = json.loads(trained.hugging_face_files()["tokenizer.json"])
    model = good["model"]
    vocabulary = {token: id for token, id in model["vocab"].items() if id != trained.end}
    nameless = good | {"added_tokens": [], "model": model | {"vocab": vocabulary}}
    for content, config, message in (
        ("{", None, r"can't be read \(.*\); give a tokenizer\.json"),
        ("[" * 99 + "]" * 99, None, "nested more than"),
        ([], None, "not a JSON object"),
        ({}, None, "no tokenizer: it has no model with a vocabulary"),
        (good | {"model": model | {"type": "WordPiece"}}, None, "its unk_token is None, and none of its tokens"),
        (good | {"model": model | {"type": "Unigram"}}, None, "its model is .Unigram."),
        (good | {"model": model | {"dropout": 0.1}}, None, "its dropout is 0.1"),
        (good | {"model": model | {"continuing_subword_prefix": "x"}}, None, "its continuing_subword_prefix is 'x'"),
        (good | {"model": model | {"merges": ["zz zz"]}}, None, "the library tokenizers can't read it"),
        (good | {"model": model | {"vocab": {"a": -1}}}, None, "the library tokenizers can't read it"),
        (good | {"model": model | {"vocab": model["vocab"] | {"zz": 2**31}}}, None, "its ids must be below 16,777,216"),
        (good | {"decoder": {"type": "WordPiece"}}, None, "its decoder is not ByteLevel"),
        (good | {"pre_tokenizer": None}, None, "its pre_tokenizer is not ByteLevel"),
        (good | {"added_tokens": [3]}, None, "its added_tokens are no list"),
        (nameless, None, r"that ends a document is not named; name it in .*_config\.json: \{.eos_token.: .TOKEN.\}"),
        (good, {"eos_token": "</s>"}, "that ends a document, '</s>', is none of its tokens; name it in"),
        (good, {"eos_token": 3}, "eos_token is 3, and must be the text of a token"),
        (good, [], r"tokenizer_config\.json: can't be read"),
    ):
        folder = tmp_path / "tokenizer"
        (folder / "tokenizer_config.json").unlink(missing_ok=True) if folder.exists() else None
        with pytest.raises(DataError, match=message) as raised:
            open_tokenizer(str(write(folder, content, config)))
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="can't be read"):
        open_tokenizer("long" * 1000)
    for name in ("nothing", str(tmp_path)):
        with pytest.raises(UsageError, match=r"--tokenizer .*: there is no .*; give gpt2, bytes, chars"):
            open_tokenizer(name)
