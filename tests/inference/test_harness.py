"""The harness's model "jaxgpt" beside its own "hf" on the same weights: every request, and the metrics."""

import importlib.util
import json
import random
import sys

import pytest

from jaxgpt.errors import DataError, UsageError
from jaxgpt.runs.huggingface import load_hf
from tests.support import tasks
from tests.support.tasks import words


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Not when tests are collected: it takes seconds."""
    global harness, lm_eval
    lm_eval = pytest.importorskip("lm_eval", reason=tasks.NEEDS_HARNESS)
    from jaxgpt.inference import harness


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("harness")
    tasks.export(path / "hf")
    tasks.write(path / "tasks")
    return path


@pytest.fixture(scope="module")
def ours(folder):
    unroll = tasks.CONFIG.n_layer  # as commands load a model on a CPU, so that the programs are the same
    return harness.JaxgptLM(load_hf(folder / "hf", unroll=unroll), batch_size=4)


@pytest.fixture(scope="module")
def theirs(folder):
    for library in ("torch", "transformers", "accelerate"):
        pytest.importorskip(library, reason="the harness's hf needs torch, transformers and accelerate")
    with harness._quiet():
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=str(folder / "hf"), device="cpu", dtype="float32", batch_size=3)


def simple(lm, folder, *names, **options):
    """What the harness's own function makes of tasks of the folder."""
    manager = lm_eval.tasks.TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    with harness._quiet():
        return lm_eval.simple_evaluate(lm, tasks=list(names), task_manager=manager, bootstrap_iters=100, **options)


def numbers(results):
    return {
        task: {name: value for name, value in metrics.items() if not isinstance(value, str)}
        for task, metrics in results["results"].items()
    }


# ---- The same answers


@pytest.mark.slow
def test_every_answer_is_that_of_hf(folder, ours, theirs):
    names = ("choose", "last_word", "write", "rolling")
    a, b = (simple(lm, folder, *names, log_samples=True) for lm in (ours, theirs))
    for name in names:
        for mine, other in zip(a["samples"][name], b["samples"][name], strict=True):
            assert mine["arguments"] == other["arguments"]
            assert_same(mine["resps"], other["resps"])
    for name, metrics in numbers(a).items():
        assert metrics == pytest.approx(numbers(b)[name], rel=1e-5), name


def assert_same(mine, other):
    """Log likelihoods to 1e-4, or to the rounding of their sum, which is of float32 there; all else equal."""
    if isinstance(mine, list | tuple):
        assert len(mine) == len(other)
        for pair in zip(mine, other, strict=True):
            assert_same(*pair)
    elif isinstance(mine, float):
        assert mine == pytest.approx(other, abs=1e-4, rel=2e-7)
    else:
        assert mine == other


def asked(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=each, idx=i) for i, each in enumerate(arguments)]


def test_odd_requests_are_answered_as_hf_does(ours, theirs):
    rng = random.Random(1)
    pairs = [
        ("", "a text without a context"),
        ("", "<|endoftext|> as its own context"),
        ("<|endoftext|>", "Hi"),
        ("two blanks  ", "behind"),
        ("a line\n", "\nand another"),
        ("one token each", " a"),
        ("one token each", " b"),
        ("caf", "\u00e9\U0001f926\U0001f3fd"),
        ("x" * 40, "y" * 30),
        (words(rng, 200, 200), " " + words(rng, 5, 5)),
    ]
    requests = asked("loglikelihood", *pairs)
    with harness._quiet():
        assert_same(ours.loglikelihood(requests), theirs.loglikelihood(requests))
        texts = asked("loglikelihood_rolling", ("",), ("a",), ("a b " * 32,), (words(rng, 150, 150),))
        assert_same(ours.loglikelihood_rolling(texts), [float(x) for x in theirs.loglikelihood_rolling(texts)])


def test_texts_are_those_of_hf_whatever_ends_them(ours, theirs):
    prompts, texts = [words(random.Random(i), 1, 70) for i in range(3)], []
    for kwargs in (
        {"until": [], "max_gen_toks": 20},
        {"until": "e", "max_new_tokens": 20},
        {"until": ["zzz", "in"], "do_sample": False, "temperature": 0.7, "max_gen_toks": 45},
        {"max_gen_toks": 1},
    ):
        requests = asked("generate_until", *((prompt, kwargs) for prompt in prompts))
        with harness._quiet():
            texts.append(ours.generate_until(requests))
            assert texts[-1] == theirs.generate_until(requests)
    assert all(len(set(text)) > 10 for text in texts[0])
    assert [text.split("e")[0] for text in texts[0]] == texts[1] != texts[0]


def test_the_tokens_are_those_of_the_exported_tokenizer(ours, theirs):
    rng = random.Random(2)
    for _ in range(100):
        text = "".join(chr(rng.choice([rng.randint(9, 126), rng.randint(9, 0x2FFF)])) for _ in range(30))
        assert ours.tok_encode(text) == theirs.tok_encode(text)


@pytest.mark.slow
def test_the_short_way_has_the_results_of_the_long_one(folder, ours):
    found = harness.evaluate(ours, harness.load_tasks(["choose", "write"], folder / "tasks", num_fewshot=2), limit=5)
    expected = simple(ours, folder, "choose", "write", num_fewshot=2, limit=5)
    assert found["results"] == json.loads(json.dumps(expected["results"]))
    assert found["n-shot"] == {"choose": 2, "write": 2} and found["n-samples"]["choose"]["effective"] == 5
    assert found["versions"] == expected["versions"] and found["configs"].keys() == {"choose", "write"}
    plain = harness.evaluate(ours, harness.load_tasks(["choose"], folder / "tasks", num_fewshot=None), limit=5)
    assert plain["n-shot"] == {"choose": 0} and plain["results"] != found["results"]


def test_the_harness_finds_it_by_name(folder, ours):
    arguments = f"pretrained={folder / 'hf'},dtype=float32"
    manager = lm_eval.tasks.TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    options = {"tasks": ["choose"], "task_manager": manager, "limit": 3, "log_samples": False}
    with harness._quiet():
        by_name = lm_eval.simple_evaluate("jaxgpt", model_args=arguments, batch_size=4, device="cpu", **options)
        by_hand = lm_eval.simple_evaluate(ours, **options)
    assert by_name["results"] == by_hand["results"] and by_name["config"]["model"] == "jaxgpt"


# ---- Generation of our own


def write(lm, prompts, **kwargs):
    return lm.generate_until(asked("generate_until", *((prompt, kwargs) for prompt in prompts)))


def test_sampling_follows_the_seed(ours):
    def texts(seed, batch_size=4, **kwargs):
        lm = harness.JaxgptLM(ours.model, batch_size=batch_size, seed=seed)
        return write(lm, ["Hi", "Hi", "So"], until=[], max_gen_toks=8, do_sample=True, **kwargs)

    first = texts(1, temperature=1.0)
    assert texts(1, temperature=1.0) == first != texts(2, temperature=1.0)
    assert first[0] != first[1]  # the same prompt, draws of its own
    assert texts(1, batch_size=2, temperature=1.0) == first
    greedy = write(ours, ["Hi", "Hi", "So"], until=[], max_gen_toks=8)
    assert texts(1, temperature=1.0, top_k=1) == texts(1, temperature=5.0, top_p=1e-6) == greedy
    assert texts(1, temperature=0.0) == greedy != first


def test_a_batch_ends_when_all_its_texts_have(ours, monkeypatch):
    chunks = []

    def counted(*args):
        for new in stream(*args):
            chunks.append(new)
            yield new

    stream = harness.stream
    monkeypatch.setattr(harness, "stream", counted)
    full = write(ours, ["Hi"], until=[], max_gen_toks=48)[0]
    assert len(chunks) == 3
    del chunks[:]
    assert write(ours, ["Hi"], until=[full[5]], max_gen_toks=48) == [full.split(full[5])[0]]
    assert len(chunks) == 1


def test_an_empty_prompt_begins_a_document(ours):
    assert write(ours, [""], max_gen_toks=5) == write(ours, ["<|endoftext|>"], max_gen_toks=5)


# ---- Wrong input


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"max_gen_toks": 64}, "asks for 64 new tokens, and the model's context is 64; set its max_gen_toks"),
        ({}, "asks for 256 new tokens"),
        ({"max_gen_toks": 4, "num_beams": 3}, "asks for num_beams in its generation_kwargs"),
        ({"max_gen_toks": 4, "do_sample": True, "temperature": -1}, "temperature -1.0 is out of range"),
    ],
)
def test_what_a_task_cant_have_is_said(ours, kwargs, message):
    with pytest.raises(UsageError, match=message):
        write(ours, ["Hi"], **kwargs)
    assert write(ours, ["Hi"], max_gen_toks=1, num_beams=1)


def test_wrong_arguments_are_one_line(folder, ours):
    for arguments, message in (
        ({"batch_size": "auto"}, "batch_size auto: must be a whole number"),
        ({"batch_size": 0}, "batch_size 0: must be"),
        ({"seed": -1}, "--seed -1 is out of range"),
    ):
        with pytest.raises(UsageError, match=message):
            harness.JaxgptLM(ours.model, **arguments)
    for arguments, message in (
        ({"device": "tpu"}, "--device tpu is out of range: it must be one of auto, gpu, cpu"),
        ({"dtype": "float16"}, "--dtype float16 is out of range"),
    ):
        with pytest.raises(UsageError, match=message):
            harness.JaxgptLM(str(folder / "hf"), **arguments)


@pytest.fixture
def only_given(monkeypatch):
    """The harness's own thousands of tasks take seconds to list."""
    manager = harness.TaskManager
    monkeypatch.setattr(harness, "TaskManager", lambda **options: manager(**options | {"include_defaults": False}))


@pytest.mark.usefixtures("only_given")
def test_tasks_that_cant_be_had_are_one_line(folder, tmp_path, monkeypatch):
    own = (folder / "tasks" / "choose.yaml").read_text()

    def refused(kind, message, yaml=own):
        (tmp_path / "choose.yaml").write_text(yaml)
        with pytest.raises(kind) as caught:
            harness.load_tasks(["choose"], tmp_path, None)
        assert message in str(caught.value) and "\n" not in str(caught.value)

    with pytest.raises(UsageError, match=r"--tasks nonsense, other: no such task in lm-eval 0\S+ nor in"):
        harness.load_tasks(["nonsense", "choose", "other"], folder / "tasks", None)
    refused(
        DataError, "--tasks choose: the data can't be had (FileNotFoundError", own.replace("choose.jsonl", "no.jsonl")
    )
    refused(UsageError, "--tasks choose: a task can't be made: ", own.replace("multiple_choice", "nonsense"))

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach 'Rowan/hellaswag' on the Hub")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    refused(DataError, "can't be had (ConnectionError: Couldn't reach 'Rowan/hellaswag' on the Hub); check the network")


@pytest.mark.usefixtures("only_given")
def test_a_task_that_does_not_fit_its_data_is_one_line(folder, ours, tmp_path):
    yaml = (folder / "tasks" / "choose.yaml").read_text()
    (tmp_path / "choose.yaml").write_text(yaml.replace("doc_to_choice: choices", "doc_to_choice: '{{nothing[0]}}'"))
    with pytest.raises((DataError, UsageError), match="--tasks choose: ") as caught:
        harness.evaluate(ours, harness.load_tasks(["choose"], tmp_path, None))
    assert "\n" not in str(caught.value)


def test_without_the_harness_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    spec = importlib.util.spec_from_file_location("harness_again", harness.__file__)
    with pytest.raises(UsageError, match=r"the harness is not installed .*: pip install 'lm-eval>=0.4.13'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
