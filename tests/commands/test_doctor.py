"""`jaxgpt doctor` on this machine, and on machines that are made to fail."""

import ctypes
import errno
import http.server
import importlib.metadata
import json
import os
import shutil
import subprocess
import threading

import pytest

from jaxgpt.commands import doctor
from jaxgpt.commands.doctor import DoctorConfig, examine, main

CUDA = """
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuInit(unsigned flags) { return CODE; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
"""


def find(check, **flags):
    return list(examine(check, DoctorConfig(**flags)))


@pytest.fixture
def hub(monkeypatch):
    """A server in the place of Hugging Face's; its clock is an hour behind when `late` is set."""

    class Handler(http.server.BaseHTTPRequestHandler):
        late = 0

        def do_HEAD(self):
            self.send_error(403)

        def date_time_string(self, timestamp=None):
            return super().date_time_string((timestamp or doctor.time.time()) - self.late)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield Handler
        server.shutdown()


def test_a_line_for_each_part_and_the_same_in_json(tmp_path, capsys, monkeypatch, hub):
    monkeypatch.setattr(doctor, "STEP_MEMORY", 0)
    assert main(["--out", f"{tmp_path}/run", "--json", f"{tmp_path}/found.json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "found.json").read_text())
    assert lines == [f"{row['part']:<9} {row['verdict']:<5} {row['text']}" for row in found]
    assert list(dict.fromkeys(row["part"] for row in found)) == list(doctor.CHECKS)
    assert last == "runs can work here" and not any(row["verdict"] == "wrong" for row in found)
    versions = f"jax {importlib.metadata.version('jax')}, flax {importlib.metadata.version('flax')}, "
    assert any(row["text"].startswith(versions) for row in found)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler for the driver's double")
@pytest.mark.parametrize(
    "version, code, count, verdict, text",
    [
        (11040, 0, 1, "wrong", "driver 470.82 is for CUDA 11.0, and JAX needs 12: update it to 525 or later"),
        (12080, 803, 1, "wrong", "driver 470.82 does not start (cuInit: 803); see nvidia-smi"),
        (12080, 0, 0, "wrong", "driver 470.82 lists no GPU; see nvidia-smi, and CUDA_VISIBLE_DEVICES"),
        (13000, 0, 2, "ok", "driver 470.82, for CUDA up to 13.0: 2 GPUs"),
    ],
)
def test_a_driver(tmp_path, monkeypatch, version, code, count, verdict, text):
    (tmp_path / "cuda.c").write_text(CUDA)
    values = [f"-DVERSION={version}", f"-DCODE={code}", f"-DCOUNT={count}"]
    subprocess.run(["gcc", "-shared", "-fPIC", *values, "cuda.c", "-o", "cuda.so"], cwd=tmp_path, check=True)
    module = tmp_path / "proc/driver/nvidia/version"
    module.parent.mkdir(parents=True)
    module.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82  Wed Oct 27 21:21:55 UTC 2021\n")
    library = ctypes.CDLL(tmp_path / "cuda.so")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    ((found, line),) = find(doctor.check_driver)
    assert found == verdict and line.startswith(text)


def test_no_driver(monkeypatch):
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    ((verdict, text),) = find(doctor.check_driver)
    assert verdict == "note" and text.startswith("no NVIDIA driver was found: runs use the CPU; ")


@pytest.mark.parametrize(
    "others, text",
    [
        ({"jax": "0.11.1", "jaxlib": "0.11.1"}, "jax 0.11.1 and flax 0.12.8: flax can't be imported; pip install"),
        ({"jax": "0.10.2", "driver": "535.183.01"}, "with CUDA 12.9, 'Failed to add memset node to a CUDA graph'; "),
        ({"jaxlib": "0.9"}, "jaxlib 0.9 is not of jax 0.10.2; in a new environment: pip install"),
        ({"optax": None}, "optax is missing, and >="),
        ({"tiktoken": "0.1"}, "tiktoken 0.1 is installed, and >="),
    ],
)
def test_versions_that_do_not_work_together(monkeypatch, others, text):
    versions = {"jax": "0.10.2", "jaxlib": "0.10.2", "jax-cuda12-plugin": None, "flax": "0.12.8"} | others
    installed = doctor.find_version
    monkeypatch.setattr(doctor, "find_version", lambda name: versions[name] if name in versions else installed(name))
    monkeypatch.setattr(doctor, "driver_version", lambda: versions.get("driver"))
    assert any(verdict == "wrong" and text in line for verdict, line in find(doctor.check_packages))


def test_a_package_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(doctor.sys.modules, "jaxgpt.training.setup", None)
    ((verdict, text),) = find(doctor.check_device)
    assert verdict == "wrong" and text.endswith("; in a new environment: pip install -r requirements.txt")


def test_attention_is_compared_with_the_formula(monkeypatch):
    """With the formula in bfloat16 in the place of cuDNN's."""
    from jaxgpt.runtime import device

    monkeypatch.setattr(device, "compute", lambda *_: {"attention": "cudnn"})
    compare = doctor.attention_error
    for implementation, expected in (("xla", "ok"), (None, "wrong")):
        monkeypatch.setattr(doctor, "ATTENTION_ERROR", doctor.ATTENTION_ERROR * (implementation is not None))
        monkeypatch.setattr(doctor, "attention_error", lambda _, name=implementation: compare(name))
        ((verdict, text),) = find(doctor.check_attention)
        assert verdict == expected and "differs from the formula by " in text


def test_a_disk_that_is_full_small_or_slow(tmp_path, monkeypatch):
    def fail(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        ((verdict, text),) = find(doctor.check_disk, out=tmp_path)
        assert verdict == "wrong" and text.startswith(f"{tmp_path}: No space left on device; choose a folder")
    monkeypatch.setattr(doctor, "SLOW", float("inf"))
    ((verdict, text),) = find(doctor.check_disk, out=tmp_path / "new" / "run")
    assert verdict == "note" and text.startswith(f"{tmp_path}: ") and "use a larger --save-every" in text
    monkeypatch.setattr(doctor, "CHECKPOINT", float("inf"))
    ((verdict, text),) = find(doctor.check_disk, out=tmp_path)
    assert verdict == "note" and text.endswith("make room, or use another --out")
    assert not (tmp_path / "new").exists()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXGPT_CACHE", str(tmp_path / "file" / "cache"))
    (verdict, text), _ = find(doctor.check_cache)
    assert (verdict, text.endswith("set JAXGPT_CACHE=FOLDER")) == ("note", True)
    assert text.startswith(f"{tmp_path}/file/cache: Not a directory")


def test_the_network_and_its_clock(hub, monkeypatch):
    assert [verdict for verdict, _ in find(doctor.check_network)] == ["ok"]
    hub.late = 3600
    (_, reached), (verdict, text) = find(doctor.check_network)
    assert reached.endswith("can be reached") and (verdict, text[-13:]) == ("note", "ahead: set it")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    ((verdict, text),) = find(doctor.check_network)
    assert verdict == "note" and "can't be reached (" in text
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find(doctor.check_network) == [("ok", "HF_HUB_OFFLINE is set: nothing is fetched")]


def test_a_clock_that_was_never_set(monkeypatch):
    monkeypatch.setattr(doctor.time, "time", lambda: 0.0)
    ((verdict, text),) = find(doctor.check_clock)
    assert verdict == "note" and "is before jaxgpt was installed: set the clock" in text
