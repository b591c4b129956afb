"""What a compiled GPU program does, counted from its optimised HLO text: kernels, bytes, FLOPs. Nothing has to run."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from jaxgpt.runtime.xla.hlo import Instruction, entry, read_shapes

NOT_A_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "conditional"}
SLICES = {"slice", "dynamic-slice", "gather"}
MOVES = SLICES | {"broadcast", "concatenate", "copy", "dynamic-update-slice", "pad", "transpose"}


@dataclass(frozen=True)
class Kernel:
    """One instruction that the GPU runs."""

    name: str
    kind: str
    """One of: product, attention, attention backward, scatter, sort, reduction, elementwise, copy (it only moves),
    collective, callback (it waits for the host), custom-call (none of these)."""
    result: str
    """dtype[dimensions]{layout} of what it writes, without the workspace of a library call."""
    bytes: int
    """Read and written in one run: all operands and results, but only the part touched of what is sliced, gathered or
    updated in place. Caches are ignored."""
    flops: int
    """Of the matrix products in one run: 2 for a multiplication and an addition. Causal attention has half of them."""
    times: int
    """Runs in one call of the program."""
    loop: str
    """The while loop of ENTRY that it runs in, or ''."""
    operations: frozenset[str]
    """Opcodes inside."""
    products: tuple[str, ...]
    """The dtypes that each matrix product inside reads, such as 'bf16 x bf16'."""


@dataclass(frozen=True)
class Gpu:
    """What a GPU could do at best."""

    name: str
    flops_per_s: float
    """Of dense bfloat16 products."""
    bytes_per_s: float
    memory_bytes: int


H100 = Gpu("H100 SXM", 989.4e12, 3.35e12, 80 * 2**30)


def lower_bound_ms(program: list[Kernel], gpu: Gpu) -> float:
    """The least time for these kernels one after another, in ms: launches and links between GPUs cost nothing."""
    return 1e3 * sum(k.times * max(k.flops / gpu.flops_per_s, k.bytes / gpu.bytes_per_s) for k in program)


def kernels(hlo: str) -> list[Kernel]:
    """The kernels of a program. Conditions of loops and branches of conditionals are left out.

    Raises ValueError where the text is not understood.
    """
    result = []

    def walk(computation: list[Instruction], times: int, loop: str) -> None:
        for op in computation:
            if op.opcode == "while":
                walk(op.body, times * op.trips, loop or op.name)
            elif op.opcode in ("call", "async"):
                walk(op.body, times, loop)
            elif op.opcode not in NOT_A_KERNEL and not op.opcode.endswith(("-done", "-update")):
                result.append(_kernel(op, times, loop))

    walk(entry(hlo), 1, "")
    return result


# What a test can ask of a program


def runs(program: list[Kernel], kind: str | None = None) -> int:
    """Kernels that one call launches: all, or those of one kind."""
    return sum(k.times for k in program if kind in (None, k.kind))


def loops(program: list[Kernel]) -> list[str]:
    """While loops of ENTRY. Without one, the program can be a single CUDA graph."""
    return sorted({k.loop for k in program if k.loop})


def names(program: list[Kernel], what: str) -> list[str]:
    """Kernels of this kind or with this operation inside: 'callback', 'scatter', 'dynamic-update-slice'."""
    return [k.name for k in program if what == k.kind or what in k.operations]


def transposes(program: list[Kernel]) -> list[str]:
    """Kernels that transpose in memory. XLA names a kernel after its main work; others may transpose in registers."""
    return [k.name for k in program if "transpose" in k.name]


def results(program: list[Kernel], dtype: str, elements: int) -> list[str]:
    """Kernels that write an array of this dtype ('f32') and size, whatever its shape: the full logits, for one."""
    return [k.name for k in program if any((s.dtype, s.elements) == (dtype, elements) for s in read_shapes(k.result))]


def products_not_in(program: list[Kernel], dtype: str) -> list[str]:
    """Kernels with a matrix product that reads another dtype than this ('bf16'), and what it reads."""
    return [f"{k.name}: {product}" for k in program for product in k.products if product != f"{dtype} x {dtype}"]


# One kernel


def _kernel(op: Instruction, times: int, loop: str) -> Kernel:
    inside = list(_inside(op))
    operations = frozenset(inner.opcode for inner in inside) - NOT_A_KERNEL
    products = tuple(" x ".join(x.shapes[0].dtype for x in p.operands[:2]) for p in inside if _is_product(p))
    kind = _kind(op, operations, bool(products))
    flops = sum(_flops(inner) for inner in inside)
    result = ", ".join(s.text for s in op.shapes)
    return Kernel(op.name, kind, result, _bytes(op), flops, times, loop, operations, products)


def _inside(op: Instruction) -> Iterator[Instruction]:
    for inner in op.body if op.opcode == "fusion" else ():
        yield from _inside(inner)
    if op.opcode != "fusion":
        yield op


def _kind(op: Instruction, operations: frozenset[str], product: bool) -> str:
    if op.opcode.startswith(("all-", "collective-", "reduce-scatter")):
        return "collective"
    if "__cudnn$fmha" in op.target:
        return "attention backward" if "Backward" in op.target else "attention"
    if "callback" in op.target or op.opcode in ("infeed", "outfeed", "send", "recv"):
        return "callback"
    if product:
        return "product"
    for kind in ("custom-call", "scatter", "sort", "reduce"):
        if kind in operations:
            return kind.replace("reduce", "reduction")
    return "copy" if operations <= MOVES else "elementwise"


def _is_product(op: Instruction) -> bool:
    return op.opcode == "dot" or op.target.startswith(("__cublas$gemm", "__cublas$lt$matmul"))


def _flops(op: Instruction) -> int:
    if _is_product(op):  # a dot writes {1}, cuBLAS ["1"]
        contracted = re.search(r'lhs_contracting_dim(?:s=\{|ensions": ?\[)([^}\]]*)', op.attributes)[1]
        lhs = op.operands[0].shapes[0].dims
        return 2 * op.shapes[0].elements * math.prod(lhs[int(i)] for i in re.findall(r"\d+", contracted))
    if "__cudnn$fmha" in op.target:  # 2 products of (B, H, T, T, D); backward makes the first again and has 4 more
        T = int(re.search(r'"intermediate_tensor_shape".*?"dimensions": ?\[[^\]]*"(\d+)"\]', op.attributes)[1])
        products = 5 if "Backward" in op.target else 2
        return products * 2 * op.operands[0].elements * T // (2 if "CAUSAL" in op.attributes else 1)
    return 0


def _bytes(op: Instruction) -> int:
    """Bytes read and written. From its results backwards: how many elements of each instruction are needed?"""
    body, root = (op.body, next(x for x in op.body if x.root)) if op.opcode == "fusion" else ([op], op)
    needed, total = Counter(), 0
    for part in root.operands if root.opcode == "tuple" else [root]:
        origin = part
        while origin.opcode == "bitcast":
            origin = origin.operands[0]
        if part.opcode != "get-tuple-element" or part.shapes[0].dtype not in ("s8", "u8"):  # not a workspace
            needed[part] = _updated(origin) or part.elements
            total += part.bytes(needed[part])
    for inner in reversed(body):
        for i, x in enumerate(inner.operands if needed[inner] else ()):
            elements = x.elements
            if i == 0 and inner.opcode == "dynamic-update-slice":
                elements = needed[inner] - _updated(inner)
            elif elements == inner.elements or (i == 0 and inner.opcode in SLICES | {"pad"}):
                elements = needed[inner]
            needed[x] = min(x.elements, needed[x] + elements)
    inputs = [x for x in body if x.opcode == "parameter"] if op.opcode == "fusion" else set(op.operands)
    return total + sum(x.bytes(needed[x]) for x in inputs)


def _updated(op: Instruction) -> int:
    """Elements that are written into the first operand, whose memory the result takes over; 0 where it does not."""
    update = {"dynamic-update-slice": 1, "scatter": -1}.get(op.opcode)
    return min(op.elements, op.operands[update].elements) if update else 0
