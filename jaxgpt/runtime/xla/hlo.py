"""The optimised HLO text of a compiled program, read.

The text, `jax.jit(f).lower(...).compile().as_text()`, is a list of computations; ENTRY, the last, is the program. A
computation is a list of instructions, each below those that it reads. One of them, ROOT, is the result:

    %fused_add (p0: f32[8,16], p1: f32[8,16]) -> f32[8,16] {
      %p0 = f32[8,16]{1,0} parameter(0)
      %p1 = f32[8,16]{1,0} parameter(1)
      ROOT %sum = f32[8,16]{1,0} add(%p0, %p1)
    }

An instruction is `%name = dtype[dimensions]{layout} opcode(%operands), attributes`; a tuple has the types of its parts
in parentheses. In ENTRY each is one kernel: `fusion(%x, %y), calls=%fused_add` reads x and y, writes the sum, and keeps
what is between in registers. But parameters, tuples and the like run nothing. `while` runs its `body=` as often as its
`known_trip_count` says, `call` and `async-start` run another computation once. `x-start` is x, and `x-done` awaits it.
"""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    text: str
    dtype: str
    dims: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        bits = re.search(r"\d+", self.dtype.replace("pred", "u8"))
        return math.ceil(self.elements * int(bits[0]) / 8) if bits else 0  # a token has none


@dataclass(frozen=True, eq=False)
class Instruction:
    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple["Instruction", ...]
    body: list["Instruction"] | None
    """The computation that it runs, fuses or applies."""
    attributes: str
    root: bool
    started: bool
    """It was x-start: what follows runs beside it, up to its x-done."""

    @property
    def elements(self) -> int:
        return sum(s.elements for s in self.shapes)

    def bytes(self, elements: int) -> int:
        """Of that many elements of the result."""
        return sum(s.bytes for s in self.shapes) * elements // max(self.elements, 1)

    @property
    def trips(self) -> int:
        """How often a while loop runs its body; 1 where it does not say."""
        return int(re.search(r'"known_trip_count": ?\{"n": ?"(\d+)"|$', self.attributes)[1] or 1)

    @property
    def target(self) -> str:
        """The function that a custom call calls."""
        return re.search(r'custom_call_target="([^"]*)"|$', self.attributes)[1] or ""


def read_shapes(text: str) -> list[Shape]:
    matches = re.finditer(r"(\w+)\[([\d,]*)\](\{[^}]*\})?", text)
    return [Shape(m[0], m[1], tuple(int(n) for n in m[2].split(",") if n)) for m in matches]


def entry(hlo: str) -> list[Instruction]:
    """The instructions of ENTRY, with those of other computations hanging from them."""
    computations, scope = {}, None
    for line in hlo.splitlines():
        if header := re.match(r"(ENTRY )?%(\S+) \(.*\{$", line):
            scope, ops = {}, []
            computations["ENTRY" if header[1] else header[2]] = ops
        elif line.startswith("}"):
            scope = None
        elif scope is not None:
            m = re.match(r"\s+(ROOT )?%(\S+) = (.*?) ([a-z][a-z0-9-]*)\(([^)]*)\)(.*)", line)
            if m is None:
                raise ValueError(f"not an HLO instruction: {line.strip()[:200]}")
            operands = tuple(scope[name] for name in re.findall(r"%([^\s,]+)", m[5]))
            opcode, shapes = m[4].removesuffix("-start"), read_shapes(m[3])
            # The type lists operands, results, scalars to wait for; before jax 0.12 an all-reduce's only results.
            if opcode != m[4] and (opcode != "all-reduce" or len(shapes) > len(operands)):
                shapes = [s for s in shapes[len(operands) :] if s.text != "u32[]"]
            if opcode == "custom-call" and len(shapes) > 1:
                shapes = [s for s in shapes if s.dtype not in ("s8", "u8")]  # the workspace
            called = re.search(r"\b(?:calls|body|to_apply)=%([^\s,]+)", m[6])
            body = computations[called[1]] if called else None
            scope[m[2]] = Instruction(m[2], opcode, tuple(shapes), operands, body, m[6], bool(m[1]), opcode != m[4])
            ops.append(scope[m[2]])
    if "ENTRY" not in computations:
        raise ValueError("not the text of an HLO program: it has no ENTRY")
    return computations["ENTRY"]
