import jax
import jax.numpy as jnp
import pytest

from jaxgpt.runtime.xla.program import (
    H100,
    Gpu,
    kernels,
    loops,
    lower_bound_ms,
    names,
    products_not_in,
    results,
    runs,
    transposes,
)


def program(entry, before=""):
    """The kernels of these lines of ENTRY, after other computations."""
    lines = "".join(f"  {line.strip()}\n" for line in entry.splitlines() if line.strip())
    return kernels(f"HloModule jit_f\n\n{before}\n\nENTRY %main (x: f32[]) -> f32[] {{\n{lines}}}\n")


def one(entry, before=""):
    [kernel] = program(entry, before)
    return kernel


SPLIT_PRODUCT = """
%gemm_fusion_dot_computation (parameter_0: bf16[256,8,64], parameter_1: bf16[8,64,128]) -> f32[8,256,128] {
  %parameter_0 = bf16[256,8,64]{2,1,0} parameter(0), metadata={scheduling_name="parameter_0"}
  %parameter_1 = bf16[8,64,128]{2,1,0} parameter(1)
  ROOT %dot.1 = f32[8,256,128]{2,1,0} dot(%parameter_0, %parameter_1), lhs_batch_dims={1}, lhs_contracting_dims={2}, \
rhs_batch_dims={0}, rhs_contracting_dims={1}, metadata={op_name="jit(f)/transpose(jvp())/dot_general"}
}

%add (lhs: f32[], rhs: f32[]) -> f32[] {
  %rhs = f32[] parameter(1)
  %lhs = f32[] parameter(0)
  ROOT %add.1 = f32[] add(%lhs, %rhs)
}

%fused_tanh (param_0.9: f32[8,256,128]) -> bf16[256,128] {
  %param_0.9 = f32[8,256,128]{2,1,0} parameter(0)
  %constant_5 = f32[] constant(0)
  %reduce.6 = f32[256,128]{1,0} reduce(%param_0.9, %constant_5), dimensions={0}, to_apply=%add
  %tanh.1 = f32[256,128]{1,0} tanh(%reduce.6)
  ROOT %convert.2 = bf16[256,128]{1,0} convert(%tanh.1)
}
"""


def test_a_product_and_what_follows_are_two_kernels():
    product, rest = program(
        """
        %b.1 = bf16[512,128]{1,0} parameter(1), sharding={replicated}
        %bitcast.2 = bf16[8,64,128]{2,1,0} bitcast(%b.1)
        %a.1 = bf16[256,512]{1,0} parameter(0)
        %bitcast.1 = bf16[256,8,64]{2,1,0} bitcast(%a.1)
        %gemm_fusion_dot = f32[8,256,128]{2,1,0} fusion(%bitcast.1, %bitcast.2), kind=kCustom, \
calls=%gemm_fusion_dot_computation, backend_config={"operation_queue_id":"0"}
        ROOT %loop_fusion = bf16[256,128]{1,0} fusion(%gemm_fusion_dot), kind=kLoop, calls=%fused_tanh
        """,
        SPLIT_PRODUCT,
    )
    partial_sums = 8 * 256 * 128 * 4
    assert (product.name, product.kind, product.times, product.loop) == ("gemm_fusion_dot", "product", 1, "")
    assert product.result == "f32[8,256,128]{2,1,0}"
    assert product.flops == 2 * 256 * 512 * 128
    assert product.bytes == (256 * 512 + 512 * 128) * 2 + partial_sums
    assert product.products == ("bf16 x bf16",)
    assert (rest.kind, rest.flops, rest.bytes) == ("reduction", 0, partial_sums + 256 * 128 * 2)
    assert rest.operations == {"reduce", "tanh", "convert"}


@pytest.mark.parametrize(
    "before, line, flops, bytes_",
    [
        (  # with bias
            "%a = bf16[128,64]{1,0} parameter(0)\n%b = bf16[64,384]{1,0} parameter(1)\n%c = bf16[384]{0} parameter(2)",
            '%matmul = (bf16[128,384]{1,0}, s8[4194304]{0}) custom-call(%a, %b, %c), custom_call_target="'
            '__cublas$lt$matmul", backend_config={"gemm_backend_config":{"dot_dimension_numbers":'
            '{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]},"epilogue":"BIAS"}}',
            2 * 128 * 64 * 384,
            (128 * 64 + 64 * 384 + 384 + 128 * 384) * 2,
        ),
        (  # without, of transposed a
            "%a = bf16[64,128]{1,0} parameter(0)\n%b = bf16[64,384]{1,0} parameter(1)",
            '%matmul = (f32[128,384]{1,0}, s8[4194304]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", '
            'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["0"],'
            '"rhs_contracting_dimensions":["0"],"lhs_batch_dimensions":[]}}}',
            2 * 128 * 64 * 384,
            (64 * 128 + 64 * 384) * 2 + 128 * 384 * 4,
        ),
    ],
)
def test_cublas(before, line, flops, bytes_):
    kernel = one(f"{before}\n{line}")
    assert (kernel.kind, kernel.flops, kernel.bytes) == ("product", flops, bytes_)  # and no workspace


QKV = "\n".join(f"%{name} = bf16[4,32,2,64]{{3,2,1,0}} parameter(0)" for name in ("q", "k", "v", "out", "dout"))
SCORES = (
    '"cudnn_fmha_backend_config": {"fmha_scale": 0.125, "intermediate_tensor_shape": {"element_type": "BF16", '
    '"dimensions": ["4", "2", "32", "32"], "tuple_shapes": []}, "mask_type": "CAUSAL", '
    '"bmm1_dot_dimension_numbers": {"lhs_contracting_dimensions": ["3"]}}'
)
ATTENTION = f"""
    {QKV}
    %fwd = (bf16[4,2,32,64]{{3,1,2,0}}, f32[4,2,32]{{2,1,0}}, u8[0]{{0}}) custom-call(%q, %k, %v), \
custom_call_target="__cudnn$fmhaSoftmax", backend_config={{{SCORES}}}
    %lse = f32[4,2,32]{{2,1,0}} get-tuple-element(%fwd), index=1
    %bwd = (bf16[4,2,32,64]{{3,1,2,0}}, bf16[4,2,32,64]{{3,1,2,0}}, bf16[4,2,32,64]{{3,1,2,0}}, u8[9]{{0}}) \
custom-call(%q, %k, %v, %lse, %dout, /*index=5*/%out), custom_call_target="__cudnn$fmhaSoftmaxBackward", \
backend_config={{{SCORES}}}
"""


def test_attention_computes_half_of_its_products():
    forward, backward = program(ATTENTION)
    array, lse = 4 * 32 * 2 * 64 * 2, 4 * 2 * 32 * 4
    product = 2 * (4 * 2) * 32 * 32 * 64
    assert (forward.kind, forward.flops, forward.bytes) == ("attention", 2 * product // 2, 4 * array + lse)
    assert (backward.kind, backward.flops, backward.bytes) == ("attention backward", 5 * product // 2, 8 * array + lse)
    unmasked = program(ATTENTION.replace("CAUSAL", "NO_MASK"))
    assert [k.flops for k in unmasked] == [2 * product, 5 * product]


STACK = """
%fused_slice (p0: f32[12,768,64]) -> (bf16[768,64], bf16[768,64]) {
  %p0 = f32[12,768,64]{2,1,0} parameter(0)
  %convert.1 = bf16[12,768,64]{2,1,0} convert(%p0)
  %slice.1 = bf16[1,768,64]{2,1,0} slice(%convert.1), slice={[0:1], [0:768], [0:64]}
  %bitcast.1 = bf16[768,64]{1,0} bitcast(%slice.1)
  %slice.2 = bf16[1,768,64]{2,1,0} slice(%convert.1), slice={[11:12], [0:768], [0:64]}
  %bitcast.2 = bf16[768,64]{1,0} bitcast(%slice.2)
  ROOT %tuple.1 = (bf16[768,64]{1,0}, bf16[768,64]{1,0}) tuple(%bitcast.1, %bitcast.2)
}

%fused_update (p0: f32[12,768,64], p1: s32[], p2: bf16[768,64]) -> f32[12,768,64] {
  %p0 = f32[12,768,64]{2,1,0} parameter(0)
  %p2 = bf16[768,64]{1,0} parameter(2)
  %convert.2 = f32[768,64]{1,0} convert(%p2)
  %bitcast.3 = f32[1,768,64]{2,1,0} bitcast(%convert.2)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %update.1 = f32[12,768,64]{2,1,0} dynamic-update-slice(%p0, %bitcast.3, %p1, %zero, %zero)
}

%fused_gather (p0: f32[50257,64], p1: s32[128]) -> bf16[128,64] {
  %p0 = f32[50257,64]{1,0} parameter(0)
  %p1 = s32[128]{0} parameter(1)
  %bitcast.4 = s32[128,1]{1,0} bitcast(%p1)
  %gather.1 = f32[128,1,64]{2,1,0} gather(%p0, %bitcast.4), offset_dims={1,2}, slice_sizes={1,64}
  %bitcast.5 = f32[128,64]{1,0} bitcast(%gather.1)
  ROOT %convert.3 = bf16[128,64]{1,0} convert(%bitcast.5)
}

%fused_gather_of_padded (p0: f32[50257,64], p1: s32[128]) -> f32[128,1,64] {
  %p0 = f32[50257,64]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %pad.1 = f32[50264,64]{1,0} pad(%p0, %zero), padding=0_7x0_0
  %p1 = s32[128]{0} parameter(1)
  %bitcast.4 = s32[128,1]{1,0} bitcast(%p1)
  ROOT %gather.2 = f32[128,1,64]{2,1,0} gather(%pad.1, %bitcast.4), offset_dims={1,2}, slice_sizes={1,64}
}

%add (lhs: f32[], rhs: f32[]) -> f32[] {
  %lhs = f32[] parameter(0)
  %rhs = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%lhs, %rhs)
}

%fused_scatter (p0: f32[50257,64], p1: s32[128], p2: bf16[128,64]) -> f32[50257,64] {
  %p0 = f32[50257,64]{1,0} parameter(0)
  %p1 = s32[128]{0} parameter(1)
  %bitcast.6 = s32[128,1]{1,0} bitcast(%p1)
  %p2 = bf16[128,64]{1,0} parameter(2)
  %convert.4 = f32[128,64]{1,0} convert(%p2)
  %bitcast.7 = f32[128,1,64]{2,1,0} bitcast(%convert.4)
  ROOT %scatter.1 = f32[50257,64]{1,0} scatter(%p0, %bitcast.6, %bitcast.7), to_apply=%add
}
"""
PARAMETERS = """
%stack = f32[12,768,64]{2,1,0} parameter(0)
%layer = bf16[768,64]{1,0} parameter(1)
%i = s32[] parameter(2)
%wte = f32[50257,64]{1,0} parameter(3)
%ids = s32[128]{0} parameter(4)
%rows = bf16[128,64]{1,0} parameter(5)
"""
LAYER, ROWS = 768 * 64, 128 * 64
SLICE = "%s = (bf16[768,64]{1,0}, bf16[768,64]{1,0}) fusion(%stack), kind=kLoop, calls=%fused_slice"
UPDATE = "%u = f32[12,768,64]{2,1,0} fusion(%stack, %i, %layer), kind=kLoop, calls=%fused_update"
GATHER = "%g = bf16[128,64]{1,0} fusion(%wte, %ids), kind=kLoop, calls=%fused_gather"
PADDED = "%gp = f32[128,1,64]{2,1,0} fusion(%wte, %ids), kind=kLoop, calls=%fused_gather_of_padded"
SCATTER = "%sc = f32[50257,64]{1,0} fusion(%wte, %ids, %rows), kind=kInput, calls=%fused_scatter"


@pytest.mark.parametrize(
    "line, kind, bytes_",
    [
        (SLICE, "elementwise", 2 * LAYER * (4 + 2)),
        (UPDATE, "elementwise", LAYER * (2 + 4) + 4),
        (GATHER, "elementwise", ROWS * (4 + 2) + 128 * 4),
        (PADDED, "copy", ROWS * (4 + 4) + 128 * 4),
        (SCATTER, "scatter", ROWS * (2 + 4 + 4) + 128 * 4),  # a sum is read before it is written
        ("%c = f32[12,768,64]{0,2,1} copy(%stack)", "copy", 2 * 12 * LAYER * 4),
        ("%d = f32[1,768,64]{2,1,0} dynamic-slice(%stack, %i, %i, %i)", "copy", 2 * LAYER * 4 + 4),
        ("%t = pred[128]{0} compare(%ids, %ids), direction=LT", "elementwise", 128 * (4 + 1)),
    ],
)
def test_only_the_part_touched_is_moved(line, kind, bytes_):
    kernel = one(PARAMETERS + line, STACK)
    assert (kernel.kind, kernel.flops, kernel.bytes) == (kind, 0, bytes_)


LOOP = """
%fused_next (p: s32[]) -> s32[] {
  %p = s32[] parameter(0)
  %one = s32[] constant(1)
  ROOT %add = s32[] add(%p, %one)
}

%body (arg: (s32[], f32[5])) -> (s32[], f32[5]) {
  %arg = (s32[], f32[5]{0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %next = s32[] fusion(%i), kind=kLoop, calls=%fused_next
  %x = f32[5]{0} get-tuple-element(%arg), index=1
  ROOT %tuple = (s32[], f32[5]{0}) tuple(%next, %x)
}

%outer (arg.1: (s32[], f32[5])) -> (s32[], f32[5]) {
  %arg.1 = (s32[], f32[5]{0}) parameter(0)
  ROOT %inner = (s32[], f32[5]{0}) while(%arg.1), condition=%less, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


@pytest.mark.parametrize("body, trips, times", [("body", 5, 5), ("outer", 5, 15), ("body", None, 1)])
def test_a_loop_runs_its_kernels_again(body, trips, times):
    known = (
        f', backend_config={{"known_trip_count":{{"n":"{trips}"}},"known_init_step":{{"init":"0"}}}}' if trips else ""
    )
    kernel = one(
        f"""
        %init = (s32[], f32[5]{{0}}) parameter(0)
        %while.6 = (s32[], f32[5]{{0}}) while(%init), condition=%less, body=%{body}{known}
        """,
        LOOP,
    )
    assert (kernel.name, kernel.bytes, kernel.times, kernel.loop) == ("next", 8, times, "while.6")
    assert lower_bound_ms([kernel], Gpu("slow", 1e3, 1e3, 0)) == 8 * times


def test_what_is_called_or_started_counts_once():
    called = """
%command_buffer (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %copy.1 = f32[8]{0} copy(%p)
}

%async_computation (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %copy.2 = f32[8]{0} copy(%p.1)
}
"""
    found = program(
        PARAMETERS
        + """
        %x = f32[8]{0} parameter(6)
        %call = f32[8]{0} call(%x), to_apply=%command_buffer
        %async-start = ((f32[8]{0}), f32[8]{0}, u32[]) async-start(%x), calls=%async_computation
        %async-done = f32[8]{0} async-done(%async-start)
        %fusion-start = ((f32[50257,64]{1,0}, s32[128]{0}), bf16[128,64]{1,0}, u32[]) fusion-start(%wte, %ids), \
kind=kLoop, calls=%fused_gather
        %fusion-done = bf16[128,64]{1,0} fusion-done(%fusion-start)
        %all-gather-start = (f32[8]{0}, f32[64]{0}) all-gather-start(%x), dimensions={0}
        %all-gather-done = f32[64]{0} all-gather-done(%all-gather-start)
        %all-reduce-start = f32[8]{0} all-reduce-start(%x), to_apply=%add
        ROOT %all-reduce-done = f32[8]{0} all-reduce-done(%all-reduce-start)
        """,
        STACK + called,
    )
    assert [(k.name, k.kind, k.bytes, k.times) for k in found] == [
        ("copy.1", "copy", 64, 1),
        ("copy.2", "copy", 64, 1),
        ("fusion-start", "elementwise", ROWS * (4 + 2) + 128 * 4, 1),
        ("all-gather-start", "collective", (8 + 64) * 4, 1),
        ("all-reduce-start", "collective", (8 + 8) * 4, 1),
    ]
    assert found[2].result == "bf16[128,64]{1,0}"


def test_the_lower_bound_is_the_slower_of_arithmetic_and_memory():
    kernel = one(
        """
        %a = bf16[1024,1024]{1,0} parameter(0)
        ROOT %dot.1 = bf16[1024,1024]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
        """
    )
    flops, moved = 2 * 1024**3, 2 * 1024**2 * 2  # a is read once
    assert (kernel.flops, kernel.bytes) == (flops, moved)
    assert lower_bound_ms([kernel], Gpu("", 1e12, 1e15, 0)) == pytest.approx(flops / 1e12 * 1e3)
    assert lower_bound_ms([kernel, kernel], Gpu("", 1e18, 1e9, 0)) == pytest.approx(2 * moved / 1e9 * 1e3)


def test_questions():
    """Each is answered by a program that has what it asks for and by one that has not."""
    none = program(PARAMETERS + GATHER, STACK)
    assert runs(none) == 1
    for what in ("scatter", "dynamic-update-slice", "callback", "attention", "attention backward"):
        assert names(none, what) == []
        assert runs(none, what) == 0
    assert loops(none) == transposes(none) == results(none, "f32", ROWS) == products_not_in(none, "bf16") == []

    some = program(
        PARAMETERS
        + f"""
        {UPDATE}
        {SCATTER}
        %input_transpose_fusion.1 = f32[64,128]{{1,0}} transpose(%rows), dimensions={{1,0}}
        %print.1 = () custom-call(%ids), custom_call_target="xla_ffi_python_gpu_callback"
        %logits = f32[4,32,64]{{2,1,0}} broadcast(%i), dimensions={{}}
        %dot.1 = f32[128,128]{{1,0}} dot(%input_transpose_fusion.1, %rows), lhs_contracting_dims={{0}}
        {ATTENTION}
        %init = (s32[], f32[5]{{0}}) parameter(0)
        %while.6 = (s32[], f32[5]{{0}}) while(%init), condition=%less, body=%body
        """,
        STACK + LOOP,
    )
    assert names(some, "dynamic-update-slice") == ["u"]
    assert names(some, "scatter") == ["sc"]
    assert names(some, "callback") == ["print.1"]
    assert transposes(some) == ["input_transpose_fusion.1"]
    assert results(some, "f32", 4 * 32 * 64) == ["input_transpose_fusion.1", "logits"]
    assert results(some, "bf16", 4 * 32 * 64) == []
    assert products_not_in(some, "bf16") == ["dot.1: f32 x bf16"]
    assert (runs(some, "attention"), runs(some, "attention backward")) == (1, 1)
    assert loops(some) == ["while.6"]
    assert runs(some) == len(some) == 9


def test_what_is_not_understood_is_not_left_out():
    with pytest.raises(ValueError, match="no ENTRY"):
        kernels("module @jit_f {}")
    with pytest.raises(ValueError, match="not an HLO instruction: what is this"):
        program("what is this")


def test_a_compiled_product(h100):
    def f(a, b):
        return 2 * jnp.tanh(a @ b)

    a, b = jax.ShapeDtypeStruct((512, 32), jnp.bfloat16), jax.ShapeDtypeStruct((32, 256), jnp.bfloat16)
    kernel, after = kernels(jax.jit(f).lower(*h100((a, b))).compile().as_text())  # cuBLAS, then the rest
    assert (after.kind, after.flops, after.bytes) == ("elementwise", 0, 2 * 512 * 256 * 2)
    assert (kernel.kind, kernel.products) == ("product", ("bf16 x bf16",))
    assert kernel.flops == 2 * 512 * 32 * 256
    assert kernel.bytes == (512 * 32 + 32 * 256 + 512 * 256) * 2
    assert lower_bound_ms([kernel], H100) == pytest.approx(kernel.bytes / 3.35e12 * 1e3)  # so few products are free


def test_a_compiled_loop(h100):
    def f(x, ws):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]

    x, ws = jax.ShapeDtypeStruct((256, 128), jnp.bfloat16), jax.ShapeDtypeStruct((5, 128, 128), jnp.bfloat16)
    program = kernels(jax.jit(f).lower(*h100((x, ws))).compile().as_text())
    assert len(loops(program)) == 1
    assert runs(program, "product") == 5
    assert sum(k.flops * k.times for k in program) == 5 * 2 * 256 * 128 * 128
    [layer] = [k for k in program if "dynamic-slice" in k.operations]
    assert (layer.times, layer.bytes) == (5, 2 * 128 * 128 * 2 + 4)  # not five times the stack
