"""Keys, tokens and passwords: known forms, and what only looks like one."""

import random

import pytest

from jaxgpt.prepare import pii
from tests.support.pii_blind.draw import fill
from tests.support.pii_blind.secrets import VENDORS

SECRET = [
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789abcdefghijklmnopqrstuvwxyzABCDEF",
    "glpat-ABCdef1234567890xyzA",
    "xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "sk-proj-abcD1234efGH5678ijKL9012mnop",
    "sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH1234",
    "sk-ant-api03-abcDEF123456-ghiJKL789012",
    "hf_abcdefghijABCDEFGHIJ1234567890abcd",
    "npm_abcdefghijABCDEFGHIJ1234567890abcdef",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234567890abcdefghij\n-----END RSA PRIVATE KEY-----",
    "postgres://app:s3cr3tPw@db.example.com/x",
    'api_key = "9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c"',
    '"password": "Tr0ub4dor&3"',
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws_secret_access_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYzzzzzzKEY",
    "Authorization: Bearer abcDEF1234567890ghijkl",
    "password: hunter2",
    "SECRET_KEY='django-insecure-9x!k2@l4m5n6b7v8c9'",
    "redis://:p4ss@h:6379",
    "client_secret: 'aB3dE5gH7jK9mN1pQ3rS5tU7'",
    "My API key is 8d7f6e5c4b3a29180716253443526170",
]
FORMS = [("secret", text) for text in SECRET]
LOOK_ALIKES = [
    "000-12-3456",
    "666-12-3456",
    "order 123-45-6789",
    "390.533.447-06",
    "20240131-1530",
    'api_key = "YOUR_API_KEY"',
    "password = get_password()",
    "token = tokenizer.encode(text)",
    "max_tokens=4096",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "md5: d41d8cd98f00b204e9800998ecf8427e",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "sk-learn-extension-something",
    "password: str = None",
    "api_key=os.environ['API_KEY1']",
    "https://user:password@host",
    "secret: ${SECRET_1}",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
    '"token_type": "Bearer"',
    "sk-container-id-1-label-checked",
    "hf_hub_download_with_retries_and_more",
    "the key is 42",
    "password=request.form['p1']",
    'index_key = "9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c"',
    "etag_key: 9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c",
    "sha256: 9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c",
    "next_page_token = 'CAoQAa9f8a7b6c5d4e3f2'",
]


@pytest.mark.parametrize("kind, form", FORMS)
def test_each_form_is_found(kind, form):
    for text in (form, f"Hello, {form} and more."):
        spans = pii.detect(text)
        assert spans and {span.kind for span in spans} == {kind}
        assert pii.detect(pii.replace(text, spans)) == []


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_look_alike_is_not_found(text):
    assert pii.detect(text) == pii.detect(f"Hello, {text} and more.") == []


@pytest.mark.parametrize("vendor", ["Doppler", "Postman", "RubyGems", "Sourcegraph", "LangSmith", "Clojars"])
def test_a_scanners_form_is_found_where_it_is(vendor):
    key = fill(VENDORS[vendor], random.Random(0))
    for before in (
        "",
        "k=",
        "na\u00efve \U0001f600 <b>",
        "\ud800 ",
        "word " * 8_000,
    ):  # bytes, pairs, surrogates, pieces
        for after in ("", ",17", ".", "</b>", "&y=1", '\\"', " and more"):
            spans = pii.detect(before + key + after)
            assert spans == [pii.Span("secret", len(before), len(before + key))], (before[:9], after)


def test_a_text_that_could_be_utf_16_is_read_as_it_is():
    key = fill(VENDORS["Doppler"], random.Random(0))
    text = "\0".join(f"the key {key} is here")
    assert all(0 <= span.start < span.end <= len(text) for span in pii.detect(text))
    assert pii.detect(f"\0\0 {key} \0\0") == [pii.Span("secret", 3, 3 + len(key))]
