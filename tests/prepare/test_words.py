from jaxgpt.prepare.words import WORDS


def test_words():
    assert WORDS.word_tokenize(" It's a\n\ndog's\u3000life — isn't it? ") == [
        "It's",
        "a",
        "dog's",
        "life",
        "—",
        "isn't",
        "it?",
    ]


def test_sentences():
    text = '  He said: "Stop!" Then he left... Nobody (not one.) moved?  3.5 m'
    assert WORDS.sent_tokenize(text) == ['He said: "Stop!"', "Then he left...", "Nobody (not one.)", "moved?", "3.5 m"]
    assert "".join(text[start:end] for start, end in WORDS.span_tokenize(text)) == text
    assert WORDS.sent_tokenize("  ") == []
