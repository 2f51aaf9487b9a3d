from collections.abc import Sequence

import pytest

from pts.pivot_search.sentence_text import sentence_ends
from pts.pivot_search.sentences import sentence_spans


def parts(text: str) -> list[str]:
    ends = sentence_ends(text)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("decimal points", ["Tom has 3.5 apples. ", "So 3.5 + 2 = 5.5.\n\n", "The answer is 5.5."]),
        ("a number ends a sentence", ["The price is $5. ", "Then it is $6. ", "So 11."]),
        ("a variable begins one", ["We have x = 5. ", "y is then 3."]),
        ("marks", ["Wait, is that right? ", "yes! ", "Hmm... let me check. ", "OK"]),
        (
            "abbreviations",
            ["Use e.g. the sum, i.e. all of it. ", "Dr. Smith vs. Mr. Jones, approx. five. ", "Done."],
        ),
        ("initials, and points of a figure", ["J. R. Tolkien wrote it. ", "Take point A. ", "Then B."]),
        ("a title before an initial", ["Dr. J. Smith came. ", "He left."]),
        ("factorials", ["So 5! = 120 and n! grows. ", "We have 5! ", "Good!"]),
        ("what is said", ['"Really?" he said. ', '"Yes." ', "He went."]),
        ("a numbered list", ["1. First, add 2.\n", "2. Then multiply by 4. ", "Done!\n", "Step 3. Check it."]),
        ("a list of points", ["**Step 1:** Calculate.\n", "- 5 dogs\n", "- 3 cats\n\n", "Total: 8.  "]),
        ("an item's number on its own line", ["1.\nAdd them. ", "Done."]),
        ("displayed formulas", ["Consider \\[ a. B = 3. \\] Then $$x = 1.\\ Y$$ holds. ", "So it is."]),
        ("inline formulas", ["If $a. B$ and \\(c. D\\) hold, stop. ", "Else `e. F` runs."]),
        ("environments", ["\\begin{align}\nx &= 1.\\\\\nY &= 2.\n\\end{align}\n", "Hence $x$."]),
        ("code by lines", ["See:\n", "```python\n", "x = 1. \n", "print('a. B')\n", "```\n", "That is it."]),
        ("thinking", ["<think>\n", "So 5. ", "Right.\n", "</think>\n\n", "The answer is \\boxed{8}."]),
        ("thinking in one line", ["<think>", "So 5", "</think>", "8"]),
        ("a wrapped line", ["This line was wrapped by its writer at the margin, and\ngoes on here. ", "End."]),
        ("no break inside brackets of one word", ["See (Fig. 3) there. ", "It is 5 p.m. now."]),
        ("Chinese", ["第一句。", "第二句！", "Yes"]),
        ("white space alone", ["  \n"]),
        ("white space at the start", ["\n\nSo. ", "Then."]),
    ],
)
def test_text_is_divided_into_its_sentences(name: str, sentences: list[str]) -> None:
    assert parts("".join(sentences)) == sentences, name


def test_no_text_has_no_sentences() -> None:
    assert sentence_ends("") == []


WORDS = ("So", " 3", ".", "5", " is", " it", ".\n\n", "Then", " ok", ". Next", " one", "?", " \n", "", "<end>")


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS[i] for i in ids if i != len(WORDS) - 1)


@pytest.mark.parametrize(
    ("ids", "spans"),
    [
        ((0, 1, 2, 3, 6, 7, 8), ((0, 5), (5, 7))),
        ((0, 4, 5, 9, 10, 11), ((0, 4), (4, 6))),  # ". Next" ends one sentence and begins another
        ((0, 4, 2, 12, 7, 8, 14), ((0, 4), (4, 7))),  # white space and an end token stay with what is before
        ((13, 0, 4, 6), ((0, 4),)),
        ((0,), ((0, 1),)),
        ((), ()),
    ],
)
def test_every_token_is_in_one_sentence(ids: tuple[int, ...], spans: tuple[tuple[int, int], ...]) -> None:
    assert sentence_spans(ids, decode) == spans


def test_characters_of_several_tokens_stay_whole() -> None:
    text = "Ä. Ö ü. Ende 😀. So."
    data = text.encode()
    ids = tuple(data)
    spans = sentence_spans(ids, lambda part: bytes(part).decode("utf-8", errors="replace"))
    assert [data[start:end].decode().strip() for start, end in spans] == ["Ä.", "Ö ü.", "Ende 😀.", "So."]
    assert (spans[0][0], spans[-1][1]) == (0, len(ids))
