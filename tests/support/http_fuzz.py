"""Random requests for a server of OpenAI's API: right ones with something changed, and noise."""

import copy
import json
import random

METHODS = ["GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]
PATHS = [
    *("/", "/health", "/metrics", "/v1/models", "/v1/models/tiny", "/v1/completions", "/v1/chat/completions"),
    *(
        "/v1/models/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/v1/models/%00",
        "/%ff",
        "//etc/passwd",
        "/v1//models",
    ),
    *(
        "/pages/chat.html",
        "/static/../../config.json",
        "/v1/models/..%5c..%5cpyproject.toml",
        "/\u00e9",
        "/?token=wrong",
    ),
]
HOSTILE = "<img src=x onerror=alert(1)>\u202e\u0000"
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 0.5, 1e308, -1e-300, 2**31, 2**63, 10**30, float("nan"), float("inf"), "", "a"),
    *("tiny", HOSTILE, "\ud800", "x" * 2000, [], {}, [[]], [1, 2], ["a", "b"], [None], [97] * 500, {"type": "text"}),
    *({"include_usage": True}, [{"role": "user", "content": "Hi"}], [{"role": "user"}], [{"role": 3, "content": []}]),
    [{"role": "system", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": None}],
]
FIELDS = [
    *("model", "prompt", "messages", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k"),
    *("stop", "seed", "stream", "stream_options", "echo", "logprobs", "tools", "best_of", "user", "zzz", "__proto__"),
]
RIGHT = [
    ("/v1/completions", {"model": "tiny", "prompt": "ab", "max_tokens": 3}),
    ("/v1/completions", {"model": "tiny", "prompt": [1, 2], "max_tokens": 2, "stream": True}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}),
]


def draw_request(draw: random.Random, key: str) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """A request: its method, path with the query, headers and body."""
    path, body = copy.deepcopy(draw.choice(RIGHT))
    method, headers = "POST", [("authorization", f"Bearer {key}"), ("content-type", "application/json")]
    for _ in range(draw.randrange(3)):
        body[draw.choice(FIELDS)] = copy.deepcopy(draw.choice(VALUES))
    if draw.random() < 0.1:
        body.pop(draw.choice(sorted(body)))
    content = json.dumps(body).encode()
    if draw.random() < 0.3:
        content = _damage(draw, content)
    if draw.random() < 0.2:
        method, path = draw.choice(METHODS), draw.choice(PATHS)
    if draw.random() < 0.15:
        headers = _change_headers(draw, headers, key)
    return method, path, headers, content


def _damage(draw: random.Random, content: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    return draw.choice(
        [
            content[:at],
            content[:at] + draw.randbytes(3) + content[at:],
            content[:at] + content[at + 1 :],
            draw.randbytes(50),
            b"[" * draw.choice([3, 60, 100_000]),
            b'{"a":' * draw.choice([3, 100_000]),
            content.decode().encode("utf-16"),
            b"",
            b'"text"',
            b"[1]",
            b"1" * draw.choice([5, 5000]),
            b"\xef\xbb\xbf" + content,
        ]
    )


def _change_headers(draw: random.Random, headers: list[tuple[str, str]], key: str) -> list[tuple[str, str]]:
    name, value = draw.choice(
        [
            *(("authorization", each) for each in ("", "Bearer", "Bearer ", f"Basic {key}", f"Bearer {key}x", key)),
            *(("host", each) for each in ("evil.example", "localhost:99999999", "localhost@evil.example", "", "[::1]")),
            *(("origin", each) for each in ("http://evil.example", "null", "http://localhost", "https://localhost:1")),
            *(("content-type", each) for each in ("text/plain", "multipart/form-data; boundary=x", "")),
            *(("content-length", each) for each in ("99999999999", "-1", "x")),
            ("content-encoding", "gzip"),
            ("x-forwarded-host", "evil.example"),
            ("cookie", f"token={key}"),
            ("accept", "text/html"),
            ("x-long", "y" * 5000),
        ]
    )
    kept = [each for each in headers if each[0] != name or draw.random() < 0.2]  # or it comes twice
    return [*kept, (name, value)]
