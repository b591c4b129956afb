import subprocess
import sys
from pathlib import Path

import pytest

# So many numbers taken and freed: how many pages of 4 kB did the system have to give the second time?
PROGRAM = """
import resource, sys
import numpy as np
from jaxgpt.runtime import allocator
if sys.argv[1] == "tuned":
    allocator.use_one_heap()
    allocator.keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(int(sys.argv[2]), np.float64)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(how, count=20_000_000, **environment):
    command = [sys.executable, "-c", PROGRAM, how, str(count)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "NUMPY_MADVISE_HUGEPAGE": "0"} | environment
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_memory_is_kept_for_the_next_time_unless_the_user_has_settings():
    assert faults("plain") > 10_000
    assert faults("tuned", count=300_000_000) < 1000  # 2.4 GB: more than 2**31 bytes
    assert faults("tuned", MALLOC_TOP_PAD_="131072") > 10_000
    assert faults("tuned", GLIBC_TUNABLES="glibc.malloc.tcache_count=7") > 10_000
