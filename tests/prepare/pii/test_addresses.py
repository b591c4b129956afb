"""E-mail and IP addresses: the forms in the wild, and what only looks like one."""

import pytest

from jaxgpt.prepare import pii

EMAIL = [
    "Mail john.doe+x@example.co.uk.",
    "<a@b.io>",
    "mailto:jo@x.museum?subject=a",
    "o'brien@example.com",
    "müller@bücher.de",
    "user_1@sub.a.example",
    "邮箱是zhang@example.com请联系",
    "john [at] example [dot] com",
    "x?e=john%40example.com&",
    "'a.b@x.com',",
    "john@example.com's",
    "**john@x.com**",
    '"john doe"@example.com',
    "a@163.com",
    "иван@почта.рф",
    "john@example.com:hunter2",
    "JOHN@EXAMPLE.COM",
    "x@xn--bcher-kva.de",
    "https://x.com/?to=john@x.com",
]
IP = [
    "10.0.0.1",
    "from 8.8.8.8:53",
    "http://192.168.1.1/x",
    "203.0.113.7/24",
    "2001:db8::1",
    "[2001:db8:85a3::8a2e:370:7334]:443",
    "fe80::1%eth0",
    "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "::ffff:192.0.2.1",
    "IPv6:2001:db8::7",
    "1.2.3.4 logged in",
    "ip=172.16.0.5",
    "host at 2001:db8::1:",
    "Server 93.184.216.34.",
    "Server 5.9.12.31 fixes the clock",
    "Blocked 5.9.12.31 again",
    "10.0.0.1 Router",
    "inversion 5.9.12.31",
]
FORMS = [("email", text) for text in EMAIL] + [("ip", text) for text in IP]
LOOK_ALIKES = [
    "@handle said",
    "lodash@4.17.21",
    "git@github.com:a/b.git",
    "@app.route('/x')",
    "root@localhost",
    "logo@2x.png",
    "ssh://deploy@host.example.com/x",
    "user@1000.service",
    "actions/checkout@v4.1.0",
    "RFC 2616 2068 1945",
    "10-15-2023 14:00",
    "2024/01/31 23:59:59.999",
    "version 1.2.3.4",
    "v1.2.3.4",
    "Section 3.2.1.4",
    "255.255.255.0",
    "127.0.0.1",
    "0.0.0.0",
    "foo-1.2.3.4.tar.gz",
    "1.2.3.4.5",
    "Chrome/91.0.44.12",
    "upgraded from 1.2.3.4 to 1.2.3.5",
    "256.1.1.1",
    "pkg==1.2.3.4",
    "std::vector",
    "a::b",
    "12:30:45",
    "aa:bb:cc:dd:ee:ff",
    "x[::2]",
    "::1",
    "ProductVersion=4.3.2.1",
    "Versi\u00f3n 4.3.2.1",
    "wersja 4.3.2.1",
    "Kapitel 4.3.2.1",
    "hoofdstuk 4.3.2.1",
    "\u0440\u0430\u0437\u0434\u0435\u043b 4.3.2.1",
    "Inkpot 4.2.10.3 introduces tabs",
    "It ended. 2.3.4.5 Results",
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
