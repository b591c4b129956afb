"""What GPUs send each other, by the compiled programs of 8 on one host and 16 on two, and the arithmetic behind it."""

import functools
import math

import jax
import pytest

from jaxgpt.models.base import REPLICATED
from jaxgpt.models.layers import SHARDING_RULES
from jaxgpt.runtime.xla import program
from jaxgpt.runtime.xla.hlo import entry
from jaxgpt.runtime.xla.traffic import Links, collectives, step
from jaxgpt.training.config import TrainConfig

MESHES = {
    "8 data": {"data": 8},
    "16 both": {"data": 2, "fsdp": 8},
}
PROGRAMS = [("8 data", 3), ("16 both", 12)]


def flags(name, n_layer, **more):
    size = math.prod(MESHES[name].values())
    return TrainConfig.of(**{"B": 64 * size, "T": 1024, "n_layer": n_layer} | more), MESHES[name]


@pytest.fixture(scope="module")
def read(h100_step):
    """What a program is: compiled, its step, its collectives, its kernels."""

    @functools.cache
    def read(name, n_layer):
        compiled = h100_step(*flags(name, n_layer))
        text = compiled.as_text()
        return compiled, step(text), collectives(text), program.kernels(text)

    return read


def of_each_program(test):
    return pytest.mark.slow(pytest.mark.parametrize("name, n_layer", PROGRAMS)(test))


def parameters(n_layer):
    """Of kernels, embeddings and vectors."""
    kernels = n_layer * 12 * 768**2
    return kernels, (50257 + 1024) * 768, n_layer * 13 * 768 + 2 * 768


def least(mesh, n_layer):
    """Bytes that a device can't but send: float32 gradients, bfloat16 kernels, float32 embeddings."""
    data, fsdp = mesh["data"], mesh.get("fsdp", 1)
    kernels, embeddings, vectors = parameters(n_layer)
    gathered = (2 * kernels + 4 * embeddings) * (fsdp - 1) / fsdp
    scattered = 4 * (kernels + embeddings) * (fsdp - 1) / fsdp
    reduced = 2 * 4 * (kernels + embeddings) / fsdp * (data - 1) / data
    n = data * fsdp
    return gathered + scattered + reduced + 2 * 4 * vectors * (n - 1) / n


@of_each_program
def test_no_device_sends_more_than_it_must(read, name, n_layer):
    _, found, sent, _ = read(name, n_layer)
    assert found.sent == pytest.approx(least(MESHES[name], n_layer), abs=100)  # the loss, the count, the norm
    kinds = {collective.kind for collective in sent}
    assert kinds == ({"all-reduce"} if "data" in name else {"all-reduce", "all-gather", "reduce-scatter"})


@of_each_program
def test_the_step_on_a_mesh_is_that_of_one_device(read, name, n_layer):
    *_, kernels = read(name, n_layer)
    assert not program.loops(kernels) and not program.products_not_in(kernels, "bf16")
    assert program.runs(kernels, "attention") == program.runs(kernels, "attention backward") == n_layer
    assert not program.names(kernels, "callback")
    flops = sum(kernel.flops for kernel in kernels)
    products, _, _ = parameters(n_layer)
    attention = n_layer * 7 * 64 * 1024**2 * 768  # half of two products, and of five backward
    assert flops == pytest.approx(6 * 64 * 1024 * (products + 50257 * 768) + attention, rel=0.01)  # of 64 sequences


# The least ms of the kernels, of all collectives, and of what is waited for; each a little above what it is.
TIMES = {"8 data": (40, 1.3, 0.6), "16 both": (84, 5.1, 2.1)}


@of_each_program
def test_compute_hides_most_of_it(read, name, n_layer):
    compute, links, waited = TIMES[name]
    _, found, *_ = read(name, n_layer)
    assert found.compute_ms < compute and found.communication_ms < links and found.exposed_ms < waited
    assert found.ms == found.compute_ms + found.exposed_ms


@of_each_program
def test_memory_of_a_device(read, name, n_layer):
    plan = read(name, n_layer)[0].memory_analysis()
    kernels, embeddings, vectors = parameters(n_layer)
    shares = MESHES[name].get("fsdp", 1)
    state = 12 * ((kernels + embeddings) / shares + vectors)
    tokens = 2 * 4 * 64 * 1024
    assert plan.argument_size_in_bytes == pytest.approx(state + tokens, abs=1000)
    assert plan.alias_size_in_bytes == pytest.approx(state, abs=1000)
    assert plan.temp_size_in_bytes < {3: 11e9, 12: 29e9}[n_layer]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8 data", "16 both"])
def test_parts_of_a_batch_are_added_up_before_they_are_sent(h100_step, name):
    text = h100_step(*flags(name, 1, accumulate=4, B=64)).as_text()
    assert len(program.loops(program.kernels(text))) == 1
    sent = [c for c in collectives(text) if c.bytes > 10**6]
    assert sent and all(c.times == 1 for c in sent)
    assert step(text).sent == pytest.approx(least(MESHES[name], 1), rel=1e-6)


@pytest.mark.slow
def test_remat_keeps_its_promise_on_a_mesh(h100_step):
    none, full = (
        h100_step(*flags("8 data", 3, remat=remat)).memory_analysis().temp_size_in_bytes for remat in ("none", "full")
    )
    assert full < 0.6 * none


PROGRAM = """
ENTRY %main (a: f32[1024,1024]) -> f32[1024,1024] {{
  %a = f32[1024,1024]{{1,0}} parameter(0)
  %start = f32[1024,1024]{{1,0}} all-reduce-start(%a), replica_groups={groups}, to_apply=%sum{sync}
  %b = f32[1024,1024]{{1,0}} negate(%a)
  %done = f32[1024,1024]{{1,0}} all-reduce-done(%start)
  ROOT %c = f32[1024,1024]{{1,0}} negate(%b)
}}
"""
SUM = "%sum (x: f32[], y: f32[]) -> f32[] {\n  %x = f32[] parameter(0)\n  ROOT %y = f32[] parameter(1)\n}\n"


def one(groups, sync=""):
    (found,) = collectives(SUM + PROGRAM.format(groups=groups, sync=sync))
    return found


@pytest.mark.parametrize(
    "groups, expected",
    [
        ("{{0,2},{1,3}}", ((0, 2), (1, 3))),
        ("[2,2]<=[4]", ((0, 1), (2, 3))),
        ("[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("mesh['a'=2,'b'=2] {'b'}", ((0, 1), (2, 3))),
        ("mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
        ("mesh['a'=1,'b'=2,'c'=3], device_ids=([3,2]T(1,0)) {'b'}", ((0, 1), (2, 3), (4, 5))),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", ((0, 1, 4, 5), (2, 3, 6, 7))),
    ],
)
def test_who_takes_part(groups, expected):
    assert one(groups).groups == expected


def test_what_is_sent_and_what_runs_beside():
    size = 4 * 1024**2
    found = one("{{0,1,2,3}}")
    assert (found.bytes, found.size, found.times) == (size, 4, 1)
    assert found.sent == 2 * size * 3 / 4
    assert found.hidden_ms == pytest.approx(1e3 * 2 * size / program.H100.bytes_per_s)  # %b, and not %c
    assert one("{{0,1,2,3}}", ', backend_config={"is_sync":true}').hidden_ms == 0
    assert not collectives(SUM + PROGRAM.format(groups="{{0},{1}}", sync=""))  # nobody to send to


def test_the_time_of_links():
    links = Links(inside=400e9, outside=50e9, per_host=4, latency_ms=0.01)
    sent = 2 * 4 * 1024**2
    assert one("{{0,1,2,3}}").ms(links) == pytest.approx(0.01 + 1e3 * sent * 3 / 4 / 400e9)
    assert one("{{0,4}}").ms(links) == pytest.approx(0.02 + 1e3 * sent / 2 / 50e9)  # one adapter of each host
    assert one("{{0,1,2,3,4,5,6,7}}").ms(links) == pytest.approx(0.02 + 1e3 * sent * 7 / 8 / 200e9)  # four


def test_a_rule_is_for_each_large_parameter():
    from jaxgpt.training.setup import build_trainer

    shapes = build_trainer(TrainConfig.of(B=1, n_layer=1)).shapes.model
    large = {
        jax.tree_util.keystr(path).split(".")[-2]
        for path, x in jax.tree_util.tree_leaves_with_path(shapes)
        if x.size > 10**4
    }
    assert large == {name for name, rule in SHARDING_RULES.items() if rule is not REPLICATED}


def test_a_program_without_devices():
    with pytest.raises(ValueError, match="no devices are named: start"):
        one("everybody")
    assert entry(SUM + PROGRAM.format(groups="{{0,1}}", sync=""))[1].opcode == "all-reduce"
