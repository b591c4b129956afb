import dataclasses
import functools

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxgpt.inference.generate
from jaxgpt.errors import UsageError
from jaxgpt.inference.decoder import init_decoder
from jaxgpt.inference.generate import generate, room_for, stream
from jaxgpt.inference.sampling import make_sampling_params, prompt_keys
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.convert import with_config, with_n_heads
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import multi_token
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import train_step
from tests.inference.test_sampling import probabilities
from tests.support import golden
from tests.support.models import new_model, new_state

CONFIG = GPT2Config(vocab_size=61, block_size=16, n_layer=2, n_head=2, n_embd=20)


def make(config, seed=0, spread=0.3):
    """A model whose parameters are so large that it has clear preferences, and long texts without a loop."""
    model = new_model(config, jax.random.key(seed))
    keys = iter(jax.random.split(jax.random.key(seed + 1), 100))
    return jax.tree.map(lambda leaf: leaf + spread * jax.random.normal(next(keys), leaf.shape), model)


@pytest.fixture(scope="module")
def model():
    return make(CONFIG)


PROMPTS = [[5], [1, 2, 3], [60, 0, 7, 7, 9, 30, 31], list(range(16))]


uncached = jax.jit(lambda model, idx: model(idx))


def greedy(model, prompt, max_new_tokens):
    """One token at a time, the whole context anew for each; a full one loses its older half.

    Behind the context are zeros, which it does not see: so one program is compiled, not one for each length.
    """
    room, context, new = model.config.block_size, list(prompt), []
    for _ in range(max_new_tokens):
        if len(context) > room:
            context = context[-(room // 2) :]
        padded = np.array([context + [0] * (room - len(context))])
        new.append(int(jnp.argmax(uncached(model, padded)[0, len(context) - 1])))
        context.append(new[-1])
    return new


def joined(parts):
    return [[token for part in parts for token in part.tokens[row]] for row in range(4)]


# ---- Greedy


def test_greedy_is_the_likeliest_token_again_and_again(model):
    """40 tokens through a context of 16: it is full several times, at another token for each prompt."""
    expected = [greedy(model, prompt, 40) for prompt in PROMPTS]
    assert len({tuple(text) for text in expected}) == 4 and min(len(set(text)) for text in expected) > 3
    assert [generate(model, [prompt], 40, temperature=0)[0] for prompt in PROMPTS] == expected  # one by one
    assert generate(model, PROMPTS, 40, temperature=0) == expected  # all at once


@pytest.mark.parametrize("room", [1, 2, 200])
def test_any_context_is_filled_and_gone_beyond(room):
    model = make(dataclasses.replace(CONFIG, block_size=room))
    prompt = [token % 61 for token in range(room - min(room - 1, 3))]
    if room == 1:  # half of it is nothing; the last token stays
        last = [7]
        for _ in range(9):
            last.append(int(jnp.argmax(uncached(model, jnp.array([last[-1:]]))[0, -1])))
        assert generate(model, [[7]], 9, temperature=0) == [last[1:]]
    else:
        assert generate(model, [prompt], 9, temperature=0) == [greedy(model, prompt, 9)]


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_greedy_text_is_that_of_transformers(seed, tmp_path):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    from jaxgpt.runs.huggingface import load_hf

    shape = {0: (1, 33, 331), 2: (4, 64, 1543)}[seed]
    config = GPT2Config(vocab_size=shape[2], block_size=256, n_layer=1 + seed, n_head=shape[0], n_embd=shape[1])
    theirs = golden.pytorch_model(config, seed, spread=0.25)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs")
    prompts = np.random.default_rng(seed).integers(0, config.vocab_size, (3, 20))
    text = theirs.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones((3, 20), dtype=torch.long),
        max_new_tokens=200,
        min_new_tokens=200,
        do_sample=False,
        pad_token_id=0,
    )[:, 20:].tolist()
    assert min(len(set(row)) for row in text) > 10
    # min_new_tokens forbids them id 0, the end of a text to transformers; ours may not want it either
    assert not any(0 in row for row in text)
    assert generate(ours, prompts.tolist(), 200, temperature=0) == text


def test_the_stop_token_ends_a_text_and_is_left_out(model):
    free = generate(model, PROMPTS, 30, temperature=0)
    stop = free[1][4]
    for chunk_size in (None, 1, 7):
        parts = list(stream(model, PROMPTS, 30, make_sampling_params(0, stop=stop), chunk_size=chunk_size))
        texts = joined(parts)
        assert texts == [text[: text.index(stop)] if stop in text else text for text in free]
    parts = list(stream(model, PROMPTS[1:2], 30, make_sampling_params(0, stop=stop), chunk_size=1))
    assert len(parts) <= 5  # nothing after the end


def test_a_text_that_is_done_costs_the_others_nothing(model, monkeypatch):
    """The full context of a text that ends at once is not read again and again."""
    calls = []
    decode = jaxgpt.inference.generate._decode_until
    monkeypatch.setattr(
        jaxgpt.inference.generate, "_decode_until", lambda *words: calls.append(words) or decode(*words)
    )
    (alone,) = generate(model, PROMPTS[:1], 100, temperature=0)
    full = [[(first + i) % 61 for i in range(16)] for first in range(61)]
    ends = [text[0] for text in generate(model, full, 1, temperature=0)]
    prompt, stop = next((prompt, end) for prompt, end in zip(full, ends, strict=True) if end not in alone)
    calls.clear()
    assert generate(model, [PROMPTS[0], prompt], 100, temperature=0, stop=stop) == [alone, []]
    assert len(calls) < 20


@pytest.mark.parametrize("choice", [{"top_p": 1e-50}, {"top_p": 1e-20}, {"top_k": 1}, {"temperature": 1e-9}])
def test_the_narrowest_choice_is_greedy(model, choice):
    assert generate(model, PROMPTS, 8, jax.random.key(0), **choice) == generate(model, PROMPTS, 8, temperature=0)


def test_the_highest_temperature_is_a_number(model):
    assert len(set(generate(model, [[1]], 15, jax.random.key(0), temperature=1e300)[0])) > 8


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 1000])
def test_a_stream_gives_the_same_in_chunks(model, chunk_size):
    whole = generate(model, PROMPTS, 33, jax.random.key(3), temperature=0.9, top_k=9)
    keys = prompt_keys(jax.random.key(3), PROMPTS)
    parts = list(stream(model, PROMPTS, 33, make_sampling_params(0.9, top_k=9), keys, chunk_size=chunk_size))
    assert joined(parts) == whole
    assert max(len(part.tokens[0]) for part in parts) <= chunk_size
    assert (parts[-1].forwards, parts[-1].accepted) == (4 * 33, [])


# ---- Speculation

SENTENCES = np.random.default_rng(1).integers(1, 61, (40, 5))  # what a trained model has learned by heart


def sentences(rng, length):
    """Tokens of sentences in any order, the first of them begun somewhere."""
    return SENTENCES[rng.integers(0, len(SENTENCES), length // 5 + 2)].ravel()[rng.integers(0, 5) :][:length]


def trained(config, seed):
    """A model after a hundred steps on sentences: sure within one, and not of which comes next."""
    tx = make_optimizer(OptimizerConfig(), 1e-2)
    state = new_state(jax.random.key(seed), config=config, tx=tx)
    step = jax.jit(functools.partial(train_step, objective=multi_token.OBJECTIVE, tx=tx), donate_argnums=0)
    rng, n, T = np.random.default_rng(seed), config.predict_tokens, config.block_size
    for _ in range(100):
        ids = np.stack([sentences(rng, T + n) for _ in range(16)]).astype(np.int32)
        y = np.stack([ids[:, i : i + T] for i in range(1, n + 1)], axis=1)
        state, metrics = step(state, {"tokens": ids[:, :T], "targets": y})
    assert metrics["loss"] < 2.5
    return state.model


SPECULATORS = [
    {"predict_tokens": 2, "n_layer": 3},
    {"predict_tokens": 3, "n_layer": 4, "untied_head": True, "pad_vocab_to_multiple_of": 64},
    {"predict_tokens": 4, "n_layer": 5, "block_size": 33, "n_embd": 30, "n_head": 3},
]


@pytest.fixture(scope="module", params=[pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 1, 2)])
def speculator(request):
    return trained(dataclasses.replace(CONFIG, **SPECULATORS[request.param]), seed=request.param)


def test_the_speculated_text_is_the_greedy_one_of_head_1(speculator):
    """80 prompts of all lengths, of what was learned and of what was not, through contexts that are full twice."""
    rng, room = np.random.default_rng(0), speculator.config.block_size
    prompts = [sentences(rng, 1 + i % room).tolist() for i in range(40)]
    prompts += [rng.integers(0, 61, 1 + i % room).tolist() for i in range(40)]
    assert {len(prompt) for prompt in prompts} == set(range(1, room + 1))
    plain = generate(speculator, prompts, 60, temperature=0)
    chunks = list(stream(speculator, prompts, 60, make_sampling_params(0), speculate=True))
    assert [[token for chunk in chunks for token in chunk.tokens[row]] for row in range(80)] == plain
    assert [greedy(speculator, prompt, 60) for prompt in prompts[:40:20]] == plain[:40:20]  # which has no cache at all
    forwards, accepted = chunks[-1].forwards, chunks[-1].accepted
    n = speculator.config.predict_tokens
    assert len(accepted) == n - 1 and sorted(accepted, reverse=True) == accepted and accepted[-1] > 0
    assert 1.2 < 80 * 60 / forwards < n  # it did save passes


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 1000])
@pytest.mark.parametrize("stop", [False, True])
def test_a_stream_of_drafts_ends_where_the_text_does(speculator, chunk_size, stop):
    """At the number of tokens or at the stop token, though more were drafted after it, and none waits for another."""
    prompts = [SENTENCES[0, :2].tolist(), [7], SENTENCES[3, :4].tolist(), list(range(12))]
    plain = generate(speculator, prompts, 23, temperature=0)
    end = plain[0][9] if stop else None
    chunks = list(
        stream(speculator, prompts, 23, make_sampling_params(0, stop=end), chunk_size=chunk_size, speculate=True)
    )
    assert joined(chunks) == [text[: text.index(end)] if end in text else text for text in plain]
    assert max(len(chunk.tokens[0]) for chunk in chunks) < chunk_size + speculator.config.predict_tokens
    *_, whole = stream(speculator, prompts, 23, make_sampling_params(0, stop=end), speculate=True)
    assert (chunks[-1].forwards, chunks[-1].accepted) == (whole.forwards, whole.accepted)
    assert all(chunk.forwards + sum(chunk.accepted) >= sum(map(len, joined([chunk]))) for chunk in chunks)


def test_drafts_that_are_never_right_cost_passes_and_no_token(model):
    """Heads of random weights, and a text of which the first head is sure."""
    bad = make(dataclasses.replace(CONFIG, n_layer=4, predict_tokens=3), seed=5)
    chunks = list(stream(bad, PROMPTS, 40, make_sampling_params(0), speculate=True))
    plain = generate(bad, PROMPTS, 40, temperature=0)
    assert joined(chunks) == plain == [greedy(bad, prompt, 40) for prompt in PROMPTS]
    assert 120 < chunks[-1].forwards <= 160


@pytest.mark.slow
def test_in_bfloat16_too_and_where_heads_agree_always():
    """Twins of the first head draft what it says of the next token; after one that repeats itself, they are right."""
    model = with_n_heads(make(dataclasses.replace(CONFIG, dtype="bfloat16", block_size=64)), 3)
    prompt = [5, 5, 5]
    text = generate(model, [prompt], 50, temperature=0)
    assert generate(model, [prompt], 50, temperature=0, speculate=True) == text


@pytest.mark.slow
def test_all_lengths_have_one_program_more_to_speculate():
    model, key = make(dataclasses.replace(CONFIG, n_layer=3, predict_tokens=2, block_size=150)), jax.random.key(0)

    def of(length, **options):
        return lambda: generate(model, [[1] * length], 10 + length, key, **options)

    assert compiled(of(5, temperature=0, speculate=True)) == 2
    assert compiled(lambda: [of(length, temperature=0, speculate=True, stop=length)() for length in (1, 33, 150)]) == 0
    assert compiled(of(5)) == 2  # the heads are no part of it


# ---- Draws


def test_generated_tokens_have_the_models_probabilities(model):
    """Through the cache: 4,000 texts of the same prompt, the first token and the second given the first."""
    n, prompt = 4000, [3, 1, 4, 1, 5]
    texts = generate(model, [prompt] * n, 2, jax.random.key(0), temperature=0.8, top_k=6)
    first, count = np.unique([text[0] for text in texts], return_counts=True)
    p = probabilities(uncached(model, jnp.array([prompt]))[0, -1], 0.8, 6, 1.0)
    assert set(first) == set(np.flatnonzero(p))
    assert scipy.stats.chisquare(count, n * p[first]).pvalue > 1e-3
    often = int(first[count.argmax()])
    second = [text[1] for text in texts if text[0] == often]
    p = probabilities(uncached(model, jnp.array([[*prompt, often]]))[0, -1], 0.8, 6, 1.0)
    seen, count = np.unique(second, return_counts=True)
    assert set(seen) <= set(np.flatnonzero(p))
    assert (
        scipy.stats.chisquare([np.sum(np.equal(second, i)) for i in np.flatnonzero(p)], len(second) * p[p > 0]).pvalue
        > 1e-3
    )


def test_a_text_depends_on_key_and_prompt_alone(model):
    """Not on its row, nor on how many others there are, nor on how long they are."""
    key = jax.random.key(7)
    together = generate(model, PROMPTS, 20, key, temperature=1.2)
    for rows in ([0, 1], [3, 0, 2, 1], [2], [1, 3, 0]):
        texts = generate(model, [PROMPTS[row] for row in rows], 20, key, temperature=1.2)
        assert texts == [together[row] for row in rows]
    assert together != generate(model, PROMPTS, 20, jax.random.key(8), temperature=1.2)
    same = generate(model, [PROMPTS[1]] * 3, 20, key, temperature=1.2)
    assert len({tuple(text) for text in same}) == 3  # equal prompts, draws of their own
    assert same[0] == together[1]


@pytest.mark.parametrize("choice", [{"temperature": 0}, {"temperature": 3.0}, {"temperature": 3.0, "top_p": 0.9}])
def test_padded_ids_are_never_written_and_change_nothing(model, choice):
    padded = with_config(model, dataclasses.replace(CONFIG, pad_vocab_to_multiple_of=128))
    key = jax.random.key(0)
    texts = generate(padded, PROMPTS * 20, 15, key, **choice)
    assert max(map(max, texts)) < 61
    assert texts == generate(model, PROMPTS * 20, 15, key, **choice)


# ---- One program


def compiled(action):
    """How many programs were compiled, or read from the compilation cache, while it ran."""
    events = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        action()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(events)


def test_all_lengths_and_settings_have_two_programs():
    model, key = make(dataclasses.replace(CONFIG, block_size=150)), jax.random.key(0)

    def ten_lengths():
        for length in (1, 2, 3, 31, 32, 33, 64, 100, 149, 150):
            generate(model, [[1] * length], 10 + length, key, temperature=length % 3, top_k=length % 5, stop=length)

    assert compiled(ten_lengths) == 2
    assert compiled(ten_lengths) == 0
    keys = prompt_keys(key, [[1, 2]])
    assert compiled(lambda: list(stream(model, [[1, 2]], 9, make_sampling_params(top_p=0.5), keys, chunk_size=2))) == 0
    assert compiled(lambda: generate(model, np.array([[1, 2]]), 9, temperature=0)) == 0  # without a key, too
    assert compiled(lambda: generate(model, [[1, 2]] * 2, 9, key)) == 2  # another number of texts


def test_a_long_context_has_the_room_that_its_texts_need():
    assert [room_for(4096, longest) for longest in (1, 1024, 1025, 2048, 5000)] == [1024, 1024, 2048, 2048, 4096]
    assert [room_for(block_size, 10**6) for block_size in (16, 1024, 1500)] == [16, 1024, 1500]
    config = GPT2Config(vocab_size=61, block_size=4096, n_layer=1, n_head=2, n_embd=8)
    _, cache = jax.eval_shape(lambda: init_decoder(GPT2(config, jax.random.key(0)), 1, room=room_for(4096, 1500)))
    assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {(1, 2, 2048, 4)}


# ---- Wrong arguments


@pytest.mark.parametrize(
    "prompts, options, message",
    [
        ([], {}, "no prompt was given"),
        ([[1], []], {}, "a prompt of 0 tokens: the model takes 1 to 16, its context"),
        ([[1] * 17], {}, "a prompt of 17 tokens"),
        ([[61]], {}, "a token beyond the model's vocabulary, ids 0 to 60"),
        ([[-1]], {}, "a token beyond"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens 0 is out of range"),
        ([[1]], {"temperature": -0.1}, "temperature -0.1 is out of range"),
        ([[1]], {"temperature": float("nan")}, "temperature nan is out of range"),
        (np.empty((0, 3), int), {}, "no prompt was given"),
        ([[1]], {"top_k": -1}, "top_k -1 is out of range"),
        ([[1]], {"top_p": 0.0}, "top_p 0.0 is out of range"),
        ([[1]], {"top_p": 1.1}, "top_p 1.1 is out of range"),
        ([[1]], {"key": None}, "a temperature above 0 needs a key"),
        ([[1]], {"temperature": 0, "speculate": True}, "the model predicts one token: it has no heads that draft"),
    ],
)
def test_a_wrong_argument_is_named(model, prompts, options, message):
    arguments = {"max_new_tokens": 3, "key": jax.random.key(0)} | options
    with pytest.raises(UsageError, match=message):
        generate(model, prompts, **arguments)


def test_a_temperature_is_no_speculation():
    model = make(dataclasses.replace(CONFIG, predict_tokens=2, n_layer=3))
    with pytest.raises(UsageError, match=r"speculation needs temperature 0, not 0\.5"):
        generate(model, [[1]], 3, jax.random.key(0), temperature=0.5, speculate=True)


def test_wrong_prompts_are_refused_at_once_and_not_at_the_first_token(model):
    with pytest.raises(UsageError, match="a prompt of 17 tokens"):
        stream(model, [[1] * 17], 3, make_sampling_params(0))
