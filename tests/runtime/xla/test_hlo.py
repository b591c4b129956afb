import pytest

from jaxgpt.runtime.xla.hlo import entry, read_shapes

TEXT = """
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %n = s32[] get-tuple-element(%p), index=0
  %x = f32[4]{0} get-tuple-element(%p), index=1
  ROOT %both = (s32[], f32[4]{0}) tuple(%n, %x)
}

ENTRY %main (a: f32[8,16]) -> f32[2,16] {
  %a = f32[8,16]{1,0} parameter(0)
  %start = ((f32[8,16]{1,0}), f32[2,16]{1,0}) reduce-scatter-start(%a), replica_groups={{0,1,2,3}}, dimensions={0}
  %loop = (s32[], f32[4]{0}) while(%t), body=%body, backend_config={"known_trip_count":{"n":"12"}}
  ROOT %done = f32[2,16]{1,0} reduce-scatter-done(%start)
}
"""


def test_instructions_hang_together():
    a, start, loop, done = entry(TEXT.replace("while(%t)", "while(%a)"))
    assert (a.opcode, a.shapes[0].dims, a.shapes[0].bytes) == ("parameter", (8, 16), 8 * 16 * 4)
    assert (start.opcode, start.operands, start.elements) == ("reduce-scatter", (a,), 2 * 16)  # not what it reads
    assert (start.started, a.started) == (True, False)
    assert (loop.trips, start.trips) == (12, 1)
    assert [op.name for op in loop.body] == ["p", "n", "x", "both"]
    assert done.root and done.operands == (start,) and done.opcode == "reduce-scatter-done"


@pytest.mark.parametrize("written", ["f32[8,16]{1,0}", "((f32[8,16]{1,0}), f32[8,16]{1,0})"])
def test_an_all_reduce_of_any_version_writes_its_result(written):
    text = TEXT.replace("while(%t)", "while(%a)").replace(
        "%start = ((f32[8,16]{1,0}), f32[2,16]{1,0}) reduce-scatter-start", f"%start = {written} all-reduce-start"
    )
    _, start, *_ = entry(text)
    assert (start.opcode, start.elements) == ("all-reduce", 8 * 16)


def test_half_of_an_instruction_counts_half():
    a, *_ = entry(TEXT.replace("while(%t)", "while(%a)"))
    assert a.bytes(64) == 256


def test_shapes():
    one, two, token = read_shapes("(bf16[3,5]{1,0:T(8,128)}, pred[7]{0}, token[])")
    assert (one.elements, one.bytes, two.bytes, token.bytes) == (15, 30, 7, 0)


@pytest.mark.parametrize("text", ["", "HloModule m", "ENTRY %m (a: f32[]) -> f32[] {\n  what is this\n}"])
def test_what_is_no_program(text):
    with pytest.raises(ValueError, match=r"not the text of an HLO program|not an HLO instruction"):
        entry(text)
