"""Downloads from the hub, played by a local server."""

import hashlib
import http.server
import threading

import pytest

from jaxgpt import progress_bar
from jaxgpt.errors import CheckpointError
from jaxgpt.progress_bar import Stage
from jaxgpt.runs.hub import HUB
from jaxgpt.runs.weights import resolve_weights


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one file, breaking off the first time in the middle; heeds Range, as the real one does."""

    content = bytes(range(256)) * 4000
    log: list
    etag, size = "", 0  # other ones than the content's

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        if "/resolve/" not in self.path:  # the library also asks for other things, which it can do without
            return self.send_error(404)
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.log.append((self.command, self.path, start))
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{self.etag or hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", HUB["gpt2"])
        self.send_header("X-Linked-Size", str(self.size or len(self.content)))
        self.send_header("Content-Length", str(len(self.content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        if body:
            first = sum(command == "GET" for command, *_ in self.log) == 1
            self.wfile.write(self.content[start : len(self.content) // 2 if first else None])
            self.close_connection = True

    def log_message(self, *_):
        pass


def serve_from(monkeypatch, endpoint):
    """What HF_ENDPOINT does when huggingface_hub is imported."""
    import huggingface_hub.constants as constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path, monkeypatch, request):
    """The requests that a local server gets in the place of huggingface.co."""
    import huggingface_hub.constants

    requests = []
    handler = type("Handler", (Hub,), {"log": requests} | getattr(request, "param", {}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve_from(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # of whole chunks it keeps a part
    yield requests
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_fetched_once_at_its_pinned_commit(hub, capfd, monkeypatch):
    stages = []
    monkeypatch.setattr(progress_bar, "Stage", lambda *facts: stages.append(Stage(*facts)) or stages[-1])
    path = resolve_weights("gpt2").fetch()
    assert [(each.done, each.total) for each in stages] == [(len(Hub.content), len(Hub.content))]
    assert (path / "model.safetensors").read_bytes() == Hub.content
    assert {path for _, path, _ in hub} == {f"/openai-community/gpt2/resolve/{HUB['gpt2']}/model.safetensors"}
    gets = [start for command, _, start in hub if command == "GET"]
    assert gets[0] == 0 and 0 < gets[-1] < len(Hub.content)  # it broke off, and went on from there
    assert "note: fetching openai-community/gpt2 from http://127.0.0.1" in capfd.readouterr().err
    hub.clear()
    assert resolve_weights("gpt2").fetch() == path
    assert hub == []  # the second time without the network
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ({"etag": 64 * "0"}, r"the download has the SHA-256 \w{64}, and 0{64} was announced"),
        ({"size": 10**12}, r"offers a file of 1000000000000 bytes, and the model takes up to 549\d{6}"),
    ],
    indirect=["hub"],
)
def test_what_is_not_what_was_announced_or_too_large_is_not_kept(hub, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        resolve_weights("gpt2").fetch()
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.stat().st_size > 10**4]
    assert "GET" in {command for command, *_ in hub} or "offers" in message


def test_a_hub_that_is_not_there_is_one_line(hub, monkeypatch):
    import huggingface_hub.utils._http as http

    serve_from(monkeypatch, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)
    with pytest.raises(CheckpointError, match=r"gpt2 could not be fetched .* try again, the download resumes"):
        resolve_weights("gpt2").fetch()
