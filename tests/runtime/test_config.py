import re

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.runtime.config import ParallelConfig, mesh_flag, require_divisible


def test_a_mesh_is_sizes_by_axis():
    assert ParallelConfig().axes is None
    assert ParallelConfig(mesh="fsdp=4,data=2").axes == {"fsdp": 4, "data": 2}
    assert ParallelConfig(mesh="data=8").axes == {"data": 8}
    assert mesh_flag({"fsdp": 4, "data": 2}) == "fsdp=4,data=2"


@pytest.mark.parametrize("mesh", ["", "8", "data", "data=0", "data=-1", "data=2,data=2", "tensor=2"])
def test_what_is_no_mesh_is_refused(mesh):
    with pytest.raises(UsageError, match=re.escape(f"--mesh {mesh}: not a mesh; use auto")):
        ParallelConfig(mesh=mesh)


@pytest.mark.parametrize(
    "mesh, B, says",
    [
        ("data=8", 4, "--B 4 must be divisible by the 8 devices of --mesh data=8: use a multiple of 8"),
        ("data=2,fsdp=3", 4, "--B 4 must be divisible by the 6 devices of --mesh data=2,fsdp=3"),
        ("fsdp=4", 4, "--n-embd 30 must be divisible by the fsdp axis of --mesh fsdp=4"),
    ],
)
def test_a_mesh_without_equal_shares_is_refused(mesh, B, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        require_divisible(ParallelConfig(mesh=mesh).axes, B, {"n_embd": 30})
