"""What --data and --val name, and that all of the validation data is measured: against PyTorch, window by window."""

import json
import math

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.data import shards
from jaxgpt.data.config import DataConfig, FieldNames
from jaxgpt.data.datasets import load, load_val_also, open_data
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.errors import DataError, UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import next_token
from jaxgpt.runs.huggingface import load as load_weights
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.validation import summarize

TEXT = "Wörter und Wörter, über alles hinaus; 我们 and so on. " * 12
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 20, "block_size": 32}


def config(tmp_path, **flags):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return DataConfig(**{"data": f"{tmp_path}/text.txt", "B": 2, "T": 16, **flags})


def test_a_fraction_is_the_end_and_is_not_trained_on(tmp_path):
    whole, nothing = load(config(tmp_path))
    text, held = load(config(tmp_path, val="0.25"))
    assert nothing is None and len(held.tokens) == round(len(whole.tokens) / 4)
    np.testing.assert_array_equal(np.concatenate([text.tokens, held.tokens]), whole.tokens)
    assert len({whole.fingerprint, text.fingerprint, held.fingerprint}) == 3
    assert whole.num_bytes() == len(TEXT.encode()) == text.num_bytes() + held.num_bytes()


def test_parts_of_a_text_are_those_that_a_fraction_makes(tmp_path, write):
    """Of a mixture and of --val too, where no fraction can be given for each text."""
    text, held = load(config(tmp_path, val="0.25"))
    name = f"{tmp_path}/text.txt"
    for part, expected in ((f"{name}[:-0.25]", text), (f"{name}[-0.25:]", held)):
        opened = open_data(part, 2, 16, split="val")
        np.testing.assert_array_equal(opened.tokens, expected.tokens)
        assert (opened.name, opened.fingerprint) == (expected.name, expected.fingerprint)
    mixed, _ = load(DataConfig(mix=f"{name}[:-0.25]=2,{name}=1", B=2, T=16, val=f"{name}[-0.25:]"))
    assert [each.fingerprint for each in mixed.texts] == [text.fingerprint, load(config(tmp_path))[0].fingerprint]
    examples = write("pairs.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(UsageError, match=r"pairs.jsonl has examples, and only a text has such parts"):
        load(DataConfig(data=f"{examples}[:-0.5]"))


def test_further_validation_texts_have_names(tmp_path, write):
    flags = config(tmp_path, val="0.25", val_also=f"old={tmp_path}/text.txt[-0.5:],b_2={tmp_path}/a,b.txt")
    (tmp_path / "a,b.txt").write_text(TEXT)
    data, _ = load(flags)
    old, other = load_val_also(flags, data).values()
    assert old.fingerprint == open_data(f"{tmp_path}/text.txt[-0.5:]", 2, 16).fingerprint
    assert (other.name, old.B, old.T) == (f"{tmp_path}/a,b.txt", 2, 16)
    assert load_val_also(config(tmp_path), data) == {}
    for also in ("old", "old=", "=a.txt", "Old=a.txt", "old=a.txt,old=b.txt", ""):
        with pytest.raises(UsageError, match="give each text a name of its own"):
            config(tmp_path, val="0.25", val_also=also)
    with pytest.raises(UsageError, match="it goes with --val"):
        config(tmp_path, val_also="old=a.txt")
    pairs = write("pairs.jsonl", [{"prompt": "a", "completion": "b"}] * 8)
    for changes, also in (({}, pairs), ({"data": pairs}, "shakespeare")):
        flags = config(tmp_path, val="0.5", val_also=f"old={also}", **changes)
        with pytest.raises(UsageError, match=r"is no text to continue|has examples, and only texts"):
            load_val_also(flags, load(flags)[0])


def test_fields_of_examples_have_the_same_names_in_both_files_and_a_text_has_none(tmp_path, write):
    fields = FieldNames(prompt_field="q", completion_field="a")
    train, val = (write(f"{name}.jsonl", [{"q": name, "a": "b"}]) for name in ("train", "val"))
    data = load(config(tmp_path, data=train, val=val), fields=fields)
    assert [each.count for each in data] == [1, 1] and data[0].fingerprint != data[1].fingerprint
    for flags in ({}, {"data": DataConfig.data, "mix": f"{tmp_path}/text.txt=1"}):
        with pytest.raises(
            UsageError, match=r"--prompt-field q --completion-field a: .*text.txt.* is not an example file"
        ):
            load(config(tmp_path, **flags), fields=fields)


def test_a_text_says_how_many_documents_it_and_its_parts_have(tmp_path):
    stories = tmp_path / "stories.txt"
    stories.write_text("<|endoftext|>\n".join(f"Story number {i}, which ends.\n" for i in range(8)))
    for order in ("sequential", "shuffled"):
        assert str(load(config(tmp_path, data=str(stories), order=order))[0]) == f"{stories}: 72 tokens of 8 documents"
    train, validation = load(config(tmp_path, data=str(stories), val="0.25"))
    assert str(train) == f"{stories}: 54 tokens of 6 documents"
    assert str(validation) == f"the last 0.25 of {stories}: 18 tokens of 2 documents"
    assert str(load(config(tmp_path))[0]).endswith(" tokens")


@pytest.mark.parametrize("scale", [1, 8])  # random weights, and ones that are sure of themselves, as trained ones are
def test_the_loss_is_that_of_pytorch_with_strided_windows(tmp_path, scale):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = jax.tree.map(lambda leaf: scale * leaf, GPT2(GPT2Config(**SHAPE), jax.random.key(0)))
    save_hf(model, tmp_path / "hf")
    text, _ = load(config(tmp_path))
    step = jax.jit(next_token.measure)
    found = summarize((step(model, batch) for batch in text.one_pass()), text.num_bytes())

    theirs, ids = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval(), text.tokens.astype(np.int64)
    losses = []
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 16):
            window = torch.from_numpy(ids[start : start + 17])
            logits = theirs(window[None, :-1]).logits[0].double()
            losses += torch.nn.functional.cross_entropy(logits, window[1:], reduction="none").tolist()
    assert found["tokens"] == len(losses) == len(encoding().encode_ordinary(TEXT)) - 1
    assert found["bytes"] == len(TEXT.encode())
    np.testing.assert_allclose(found["loss"], np.mean(losses), atol=1e-5)
    np.testing.assert_allclose(found["loss_stderr"], np.std(losses, ddof=1) / math.sqrt(len(losses)), atol=1e-5)
    np.testing.assert_allclose(found["bits_per_byte"], sum(losses) / math.log(2) / len(TEXT.encode()), atol=1e-5)


@pytest.mark.slow
def test_a_run_measures_what_is_held_out_and_keeps_its_best(tmp_path, capsys):
    """The rows have the numbers of the checkpoints' own weights, and the lowest one stays beside the newest three."""
    flags, other = config(tmp_path), tmp_path / "other.txt"
    other.write_text("None of these tokens is ever learned, and their loss grows from step to step.")
    words = ["--data", flags.data, "--out", f"{tmp_path}/run", "--n-layer", 1, "--n-head", 2, "--n-embd", 20]
    words += ["--block-size", 32, "--B", 2, "--T", 16, "--steps", 12, "--lr", 0.1, "--val", other, "--eval-every", 2]
    assert console.run(train.main, [str(word) for word in [*words, "--save-every", 2]]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = {row["step"] + 1: row["val_loss"] for row in rows if "val_loss" in row}
    best = min(losses, key=losses.get)
    assert list(losses) == [2, 4, 6, 8, 10, 12] and best < 8
    there = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert there == [best, 8, 10, 12]
    assert (
        f"best      {tmp_path}/run/checkpoints/{best}, with a validation loss of {losses[best]:.4f}\n"
        in capsys.readouterr().out
    )

    more = [*words[: words.index("--val")], "--steps", 14, "--save-every", 1]  # measures nothing, and loses nothing
    assert console.run(train.main, [str(word) for word in more]) == 0
    there = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert there == [best, 12, 13, 14]

    _, held = load(config(tmp_path, val=str(other)))
    model = load_weights(resolve_weights(tmp_path / "run" / "checkpoints" / str(best)))
    found = summarize((jax.jit(next_token.measure)(model, batch) for batch in held.one_pass()), held.num_bytes())
    np.testing.assert_allclose(found["loss"], losses[best], rtol=1e-6)


@pytest.mark.parametrize(
    "flags, error",
    [
        ({"val": "1.5"}, "--val 1.5: a fraction must lie between 0 and 1, such as 0.1; or name a file"),
        ({"val": "0.00001"}, "too few tokens for --val 1e-05: "),
        ({"val": "nowhere.txt"}, "nowhere.txt: no such file"),
        ({"val": "nowhere.jsonl"}, "--val nowhere.jsonl: --data is a text, so it must be one too, or a fraction"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ],
)
def test_what_can_not_be_held_out_is_one_line(tmp_path, flags, error):
    with pytest.raises((DataError, UsageError)) as raised:
        load(config(tmp_path, **flags))
    assert error in str(raised.value) and "\n" not in str(raised.value)


def prepared(folder, text, val=""):
    """A prepared folder of these texts, in shards of 30 tokens."""
    folder.mkdir()
    ids = {"train": encoding().encode_ordinary(text), "val": encoding().encode_ordinary(val)}
    written = {name: {"shards": shards.write(folder, name, [np.array(ids[name], np.uint16)], 30)} for name in ids}
    shards.write_meta(folder, written)
    return str(folder)


def test_a_folder_is_trained_on_and_held_out_as_its_files_would_be(tmp_path):
    """All that a run asks of a folder is what it gets of the same tokens in one file."""
    folder = prepared(tmp_path / "folder", TEXT, "That is held out, and nothing else.")
    (one, _), (other, held) = load(config(tmp_path)), load(config(tmp_path, data=folder, val=folder))
    assert str(other) == f"{folder} (train): {len(one.tokens):,} tokens"
    assert (
        one.num_bytes() == other.num_bytes() == len(TEXT.encode())
        and one.batches_per_epoch() == other.batches_per_epoch()
    )
    for position in (0, 17, len(one.tokens) - 33):
        (a, next_a), (b, next_b) = one.batch(position), other.batch(position)
        jax.tree.map(np.testing.assert_array_equal, a, b)
        assert next_a == next_b
    for a, b in zip(one.one_pass(), other.one_pass(), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert held.name == f"{folder} (val)" and encoding().decode(held.tokens[:].tolist()).startswith("That is held out")
    assert len({one.fingerprint, other.fingerprint, held.fingerprint}) == 3

    first, last = load(config(tmp_path, data=folder, val="0.25"))
    one, end = load(config(tmp_path, val="0.25"))
    assert first.tokens[:].tolist() == one.tokens.tolist() and last.tokens[:].tolist() == end.tokens.tolist()
    assert len({first.fingerprint, last.fingerprint, other.fingerprint}) == 3


def test_the_identity_of_a_mixture_is_that_of_its_texts_and_weights(tmp_path):
    whole = config(tmp_path).data
    (tmp_path / "b.txt").write_text("another text " * 40)
    (tmp_path / "copy.txt").write_text(TEXT, encoding="utf-8")

    def of(mix, seed=0, **flags):
        flags = {"data": DataConfig.data, "B": 10, "T": 8, "mix": mix.format(a=whole, t=tmp_path)} | flags
        return load(config(tmp_path, **flags), seed)[0]

    mixed = of("{a}=0.7,{t}/b.txt=0.3")
    assert mixed.fingerprint == of("{t}/copy.txt=7,{t}/b.txt=3").fingerprint == of("{a}=7,{t}/b.txt=3").fingerprint
    others = [of(mix).fingerprint for mix in ("{a}=0.6,{t}/b.txt=0.4", "{t}/b.txt=0.7,{a}=0.3", "{a}=1")]
    assert len({mixed.fingerprint, *others}) == 4
    assert mixed.notes[0] == f"0.7 of the windows from {whole}: {len(mixed.texts[0].tokens):,} tokens"
    batch, following = mixed.batch(0)
    own = [(len(text.tokens) - 1) // 8 for text in mixed.texts]
    assert mixed.batches_per_epoch() == pytest.approx(max(own[0] / 7, own[1] / 3)) and following == 80
    names = [name for name, _ in mixed.locate(0)]
    assert [names.count(text.name) for text in mixed.texts] == [7, 3]
    for row, (name, start) in zip(batch["tokens"], mixed.locate(0), strict=True):
        (text,) = (text for text in mixed.texts if text.name == name)
        assert row.tolist() == text.tokens[start : start + 8].tolist()
    shuffled = of("{a}=0.7,{t}/b.txt=0.3", order="shuffled", seed=3)
    assert shuffled.seed == 3 and shuffled.locate(0) != mixed.locate(0)


@pytest.mark.parametrize(
    "flags, error",
    [
        ({"mix": "{a}=1,{a}=2"}, "is named twice"),
        ({"mix": "{a}=1", "data": "b.txt"}, "=1 and --data b.txt: both say what to train on; leave one out"),
        (
            {"mix": "{a}=1", "val": "0.1"},
            "--val 0.1: no fraction of a mixture can be reserved; name a text",
        ),
        ({"mix": "{a}=1,b.jsonl=1"}, "b.jsonl has examples, and only texts can be mixed; leave it out"),
        ({"mix": "{a}=1,nowhere.txt=1"}, "nowhere.txt: no such file; --mix takes a UTF-8 text"),
        ({"mix": "{a}=1", "val": "b.jsonl"}, "--val b.jsonl: --data is a text, so it must be one too"),
        ({"data": "b.jsonl", "order": "shuffled"}, "--order shuffled: b.jsonl has examples, which come in a new order"),
        ({"val": "{f}"}, "there is no split 'val', only train; prepare it with such a split, or name a file"),
        ({"val": "{t}"}, "a folder without meta.json"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, flags, error):
    names = {"a": config(tmp_path).data, "f": prepared(tmp_path / "folder", TEXT), "t": tmp_path}
    flags = {name: value.format(**names) for name, value in flags.items()}
    with pytest.raises((DataError, UsageError)) as raised:
        load(config(tmp_path, **({"data": DataConfig.data} if "mix" in flags else {}) | flags))
    assert error in str(raised.value) and "\n" not in str(raised.value)


def test_json_lines_of_texts_alone_are_a_text(tmp_path, write):
    """Wherever a text may be, against a text file of the same documents."""
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(["Story one.\n", "Story two.\n"]))
    a = write("a.jsonl", [{"id": 1, "text": "Story one.\n"}, {"text": "Story two.\n"}])

    def fingerprints(name):
        flags = {"data": name}, {"val": name}, {"data": DataConfig.data, "mix": f"{name}=1"}
        loaded = [load(config(tmp_path, T=2, **each)) for each in flags]
        return [dataset and dataset.fingerprint for datasets in loaded for dataset in datasets]

    assert fingerprints(a) == fingerprints(f"{tmp_path}/a.txt")
    assert str(open_data(a, 2, 2, split="val")) == f"{a}: 10 tokens of 2 documents"  # jaxgpt evaluate
    assert open_data(write("b.ndjson", [{"prompt": "a", "completion": "b", "text": "c"}]), 2, 9).kind == "completions"
    with pytest.raises(UsageError, match="--data has examples, so it must have some too"):
        load(config(tmp_path, data=write("c.jsonl", [{"prompt": "a", "completion": "b"}]), val=a))
    with pytest.raises(DataError, match=r"then use --val data/a/train_000000.bin"):
        load(config(tmp_path, val=write("a.parquet", "PAR1")))


def test_labels_are_the_labels_of_texts(tmp_path, write):
    """As `transformers` calls them; a list of them is not one, and no text to learn either."""
    records = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]
    plural = [{"text": each["text"], "labels": each["label"]} for each in records]
    singular, *others = (
        load(config(tmp_path, data=write(name, content)))[0]
        for name, content in (("a.jsonl", records), ("b.jsonl", plural), ("c.csv", "text, Labels\ngood,1\nbad,0\n"))
    )
    assert singular.kind == "labels" and singular.labels == ("0", "1")
    assert [(each.kind, each.fingerprint) for each in others] == [("labels", singular.fingerprint)] * 2
    both = open_data(write("d.jsonl", [each | {"labels": "x"} for each in records]), 2, 2)
    assert both.labels == singular.labels
    with pytest.raises(
        DataError, match=r"line 1: 'label' is of type list, and must be a text, .* to learn the texts alone"
    ):
        load(config(tmp_path, data=write("e.jsonl", [{"text": "x", "labels": ["bug"]}])))


def test_examples_want_examples_beside_them(tmp_path):
    flags = config(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 5)
    (tmp_path / "l.csv").write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(UsageError, match="--data has examples, so it must have some too"):
        load(config(tmp_path, data=f"{tmp_path}/a.jsonl", val=flags.data))
    with pytest.raises(UsageError, match=r"l.csv has labels, and --data .*a.jsonl has completions"):
        load(config(tmp_path, data=f"{tmp_path}/a.jsonl", val=f"{tmp_path}/l.csv"))
    with pytest.raises(DataError, match=r"--val 0.01 of 5 examples is 0; both sides need some"):
        load(config(tmp_path, data=f"{tmp_path}/a.jsonl", val="0.01"))
