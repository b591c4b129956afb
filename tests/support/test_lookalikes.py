"""The material that finders of personal data are judged by: known check digits, and spans that are where they say."""

import re

import pytest

from tests.support import pii_values as values
from tests.support.pii_cases import KINDS, cases, score, wrong


@pytest.mark.parametrize(
    "ours, known",
    [
        (values.luhn("7992739871"), 3),  # ISO/IEC 7812's own example
        (values.luhn("811228987"), 4),  # Sweden
        (values.luhn("04645428"), 6),  # Canada
        (values.luhn("800101500908"), 7),  # South Africa
        (values.mod_97("WEST12345698765432GB82"), 1),
        (values.mod_97("370400440532013000DE89"), 1),
        (values.verhoeff("236"), 3),
        (values.ean("756921707698"), 5),  # Switzerland
        (values.ean("978030640615"), 7),  # an ISBN
        (values.mod_11_10("8609574271"), 9),  # Germany
        (values.cin("RSSMRA85T10A562"), "S"),
        (values.cin("0542811101000000123456"), "X"),  # in an Italian IBAN
        (values.cpf("111444777"), "35"),
        (values.tckn("100000001"), "46"),
        (values.DNI[12345678 % 23], "Z"),
        (values.HETU[131052308 % 31], "T"),
    ],
)
def test_check_digits_are_those_of_published_examples(ours, known):
    assert ours == known


def test_cases_are_the_same_each_time_and_half_have_nothing():
    ours = cases(1, 600)
    assert ours == cases(1, 600) != cases(2, 600)
    assert sum(bool(case.spans) for case in ours) == 300 and len({case.text for case in ours}) == 600
    assert {kind for case in ours for kind, _, _ in case.spans} == set(KINDS)
    assert not any("[[" + kind in case.text for case in ours for kind in KINDS)


def test_spans_hold_what_they_say():
    form = {
        "email": r"[^@\s]+@[^@\s]+\.\w+",
        "phone": r"[+(\d][\d ()./-]{7,}\d",
        "ip": r"(\d+\.){3}\d+|[0-9a-fA-F:]+",
        "credit_card": r"\d[\d -]{12,}\d",
        "iban": r"[A-Z]{2}\d\d[A-Z\d ]{11,}",
        "national_id": r"[\dA-Z][\dA-Z .-]{7,}[\dA-Z]",
        "secret": r"\S{19,}|-----BEGIN[^-]*-----[^-]*-----END[^-]*-----",
    }
    for case in cases(3, 800):
        for kind, start, end in case.spans:
            value = case.text[start:end]
            assert re.fullmatch(form[kind], value), (kind, value)
            bare = re.sub(r"[ -]", "", value)
            assert kind != "credit_card" or values.luhn(bare[:-1]) == int(bare[-1])
            assert kind != "iban" or values.mod_97(bare[4:] + bare[:4]) == 1


def test_a_look_alike_has_no_card_and_no_account():
    for case in cases(4, 1600):
        if not case.spans:
            for run in re.findall(r"(?<![\w.])(?:4\d{3}|5[1-5]\d\d|3[47]\d\d)(?:[ -]?\d){9,12}(?!\w)", case.text):
                bare = re.sub(r"\D", "", run)
                assert values.luhn(bare[:-1]) != int(bare[-1]), case
            for run in re.findall(r"\b[A-Z]{2}\d\d(?: ?[A-Z\d]{4}){3,}(?: ?[A-Z\d]{1,3})?\b", case.text):
                bare = run.replace(" ", "")
                assert values.mod_97(bare[4:] + bare[:4]) != 1, case


def test_a_score_is_counted_by_overlaps_of_one_kind():
    ours = cases(5, 400)
    true = {case.text: list(case.spans) for case in ours}
    assert set(score(true.get, ours).values()) == {(1, 1, n) for *_, n in score(true.get, ours).values()}

    def worse(text):
        spans = [(kind, start + 1, start + 2) for kind, start, _ in true[text] if kind != "phone"]
        return spans + ([] if true[text] else [("iban", 0, 3)])

    result = score(worse, ours)
    assert result["email"][:2] == (1, 1) and result["phone"] == (1, 0, result["phone"][2])
    n = result["iban"][2]
    assert result["iban"] == (pytest.approx(n / (n + 200)), 1, n)
    assert len(wrong(worse, ours)) == 200 + result["phone"][2]
