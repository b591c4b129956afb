"""National ids: those of many countries, and what only looks like one."""

import numpy as np
import pytest

from jaxgpt.prepare import pii

NATIONAL_ID = [
    "12345678Z",
    "12.345.678-Z",
    "X1234567L",
    "1 85 05 78 006 084 91",
    "185057800608491",
    "RSSMRA85T10A562S",
    "86 095 742 719",
    "BSN 111222333",
    "85.07.30-033.28",
    "PESEL 44051401359",
    "811228-9874",
    "131052-308T",
    "CPF 390.533.447-05",
    "390.533.447-05",
    "SIN 130-692-544",
    "TFN 123 456 782",
    "123-45-6789",
    "Aadhaar 2341 2341 2346",
    "11010519491231002X",
    "8001015009087",
    "10000000146",
    "756.9217.0769.85",
    "AB 12 34 56 C",
    "ABCPE1234F",
    "NHS number 943 476 5919",
    "SSN: 123456789",
    "SSN 123 45 6789",
    "12.345.678-5",
    "710319/2745",
    "070770-1111",
    "\u8eab\u4efd\u8bc1\u53f7\u7801\uff1a11010519491231002X",
    "\u53f7110105194912310038",
    "sin: 130-692-544",
    "last year.\nAnna 390.533.447-05",
    "Smith,8001015009087,12",
]
FORMS = [("national_id", text) for text in NATIONAL_ID]
LOOK_ALIKES = [
    "dead::beef",
    "00:1b:44:11:3a:b7:00:01",
    "the 1.2.3.4 release",
    "4111 1111 1111 1112",
    "4006381333931",
    "1700000000000000",
    "IMEI 356938035643809",
    "order 4111111111111111",
    "DE89 3704 0044 0532 0130 01",
    "12345678A",
    "user ID 123456782",
    "123456782",
    "hetu 811228-9874",  # right by the check of another country, which the word is not of
    "9999 2341 2341 2346",
    "2341 2341 2346 9999",
    "cosa sin 130692544",
    "110105194912310039",
    "990105194912310031",  # no such province
    "11010519491331003X",  # no such month
]


@pytest.mark.parametrize("kind, form", FORMS)
def test_each_form_is_found(kind, form):
    for text in (form, f"Hello, {form} and more."):
        spans = pii.detect(text)
        assert spans and {span.kind for span in spans} == {kind}
        assert pii.detect(pii.replace(text, spans)) == []


def test_chance_passes_seldom():
    # Bare numbers of no meaning: nine digits have one check digit, so they need a word; eleven have two or more.
    random = np.random.default_rng(0)
    for length, limit in ((9, 0), (10, 0), (11, 0.03), (12, 0), (13, 0.01), (14, 0.01), (15, 0.01), (18, 0.01)):
        texts = [f"I saw {random.integers(10 ** (length - 1), 10**length)} there" for _ in range(400)]
        assert sum(bool(pii.detect(text)) for text in texts) <= limit * 400


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_look_alike_is_not_found(text):
    assert pii.detect(text) == pii.detect(f"Hello, {text} and more.") == []
