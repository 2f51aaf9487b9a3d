"""Stop texts: against a loop that decodes a whole completion at every step, on tokenizers of several kinds."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from one_sampling import OneSampling
from tiny import END, tiny_model
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, WordLevel, WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from pts.errors import ConfigError
from pts.policies.stop_texts import StopTexts, before_stop
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def wrapped(model, decoder):
    tokenizer = Tokenizer(model)
    if decoder is not None:
        tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def byte_level():
    """Pieces with parts of characters, line breaks inside, and letters that the next token goes on with."""
    words = ["Q", "Qu", "es", "tion", ":", "\n", "\n\n", ".\n", " Q", "7", " 7", "n", "on", "a\n\nb", "é"]
    shown = [ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)[0][0] for word in words]
    # The bytes of é and of a line break, one by one, and two characters' halves in one piece.
    pieces = ["<pad>", "<end>", *shown, "Ã", "©", "©Ã", "â", "Ģ", "Ĩ"]
    return wrapped(BPE({piece: i for i, piece in enumerate(pieces)}, []), decoders.ByteLevel())


def with_byte_fallback():
    pieces = [
        "<pad>",
        "<end>",
        "▁Q",
        "Q",
        "▁7",
        "7",
        "▁",
        "s",
        ":",
        "é",
        "<0xC3>",
        "<0xA9>",
        "<0x0A>",
        "<0x51>",
    ]
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return wrapped(BPE({piece: i for i, piece in enumerate(pieces)}, []), decoders.Sequence(chain))


def of_words():
    words = ["<pad>", "<end>", "Q", ":", "7", "=", "77", "."]
    return wrapped(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"), None)


def of_word_pieces():
    words = ["<pad>", "<end>", "Q", "##s", "##Q", ":", "7", "##7", "##:"]
    model = WordPiece({word: i for i, word in enumerate(words)}, unk_token="<pad>")
    return wrapped(model, decoders.WordPiece("##", cleanup=False))


KINDS = [byte_level, with_byte_fallback, of_words, of_word_pieces]


def first_end(tokenizer, stops, ids):
    """How many tokens until the text of them all holds a stop text; None where it never does."""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:end]), clean_up_tokenization_spaces=False)
        if any(stop in text for stop in stops):
            return end
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_where_decoding_every_step_finds_it(kind):
    tokenizer = kind()
    rng = np.random.default_rng(0)
    found = Counter()
    for _ in range(400):
        ids = rng.integers(2, len(tokenizer), size=int(rng.integers(1, 40))).tolist()
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        starts = rng.integers(0, len(text), size=2)
        drawn = (text[start : start + int(rng.integers(1, 9))] for start in starts)
        stops = tuple(stop for stop in drawn if "\ufffd" not in stop) or ("Q:",)
        expected = first_end(tokenizer, stops, ids)
        assert StopTexts(tokenizer, stops).end_in(ids) == expected, (ids, stops)
        found[expected is None] += 1
    assert found[False] > 100  # else nothing was tried


def test_the_text_ends_before_the_first_of_them():
    assert before_stop("7\n\nQuestion: b", ("Question", "\n\n")) == "7"
    assert before_stop("7\n", ("\n\n",)) == "7\n"
    assert before_stop("", ("\n",)) == ""


def test_texts_that_are_none_are_refused():
    for stop, said in ((("",), "empty"), (("a\ufffd",), r"U\+FFFD"), ("ab", "tuple")):
        with pytest.raises(ConfigError, match=said):
            Sampling(stop=stop)


SAMPLING = Sampling(temperature=1.3, top_k=0, top_p=1.0, budget=10)
STOPS = ("7", "Q Q", "= :")
PROMPT = (2, 3, 4, 5)


@pytest.fixture(scope="module")
def worded():
    tokenizer = of_words()
    return replace(tiny_model("qwen3", vocab=8, sharpness=0.4), tokenizer=tokenizer)


def outcome(policy, requests):
    result = {request: Counter() for request in requests}
    for rollout in policy.rollouts(requests):
        result[rollout.request][rollout.completion, rollout.finish] += rollout.count
    return result


def requests():
    return [
        RolloutRequest(PROMPT, n=200, seed=1),
        RolloutRequest(PROMPT, (3, 5, 2), n=50, seed=2),
        RolloutRequest(PROMPT, (5,), avoid=3, n=50, seed=3),
        RolloutRequest(PROMPT, (3,), force=2, n=50, seed=4),
    ]


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_rollouts_are_those_without_stop_texts_cut_where_one_is_complete(worded, rows):
    # The draws along a path depend on nothing behind it: so with their counts they are exactly the same.
    expected = {}
    for request, drawn in outcome(OneSampling(worded, SAMPLING), requests()).items():
        expected[request] = Counter()
        for (completion, finish), count in drawn.items():
            end = first_end(worded.tokenizer, STOPS, completion)
            key = (completion, finish) if end is None else (completion[:end], "end")
            expected[request][key] += count
    policy = OneSampling(worded, replace(SAMPLING, stop=STOPS), batch_rows=rows)
    found = outcome(policy, requests())
    assert found == expected
    ends = [completion[-1] for drawn in found.values() for completion, finish in drawn if finish == "end"]
    assert {END} < set(ends)


@pytest.mark.parametrize(
    ("prefix", "force", "completion"),
    [
        ((3, 4), None, (3, 4)),
        ((4, 3, 2), None, (4, 3, 2)),
        ((4, 3), 5, (4, 3)),
        ((2,), 2, (2, 2)),
        ((5,), 6, (5, 6)),
    ],
)
def test_what_holds_a_stop_text_is_never_continued(worded, prefix, force, completion):
    # 77 holds the 7: a stop text need not be all of a token.
    policy = OneSampling(worded, replace(SAMPLING, stop=STOPS))
    (rollout,) = policy.rollouts([RolloutRequest(PROMPT, prefix, force=force, n=5)])
    assert (rollout.completion, rollout.finish, rollout.count) == (completion, "end", 5)
    assert policy.work.forward_passes == 0


def test_the_prompt_does_not_count(worded):
    policy = OneSampling(worded, replace(SAMPLING, stop=("7 =", "= Q :")))
    # The prompt ends "7 ="; with it the second text would be complete after "Q :".
    (rollout,) = policy.rollouts([RolloutRequest(PROMPT, (2, 3), n=1)])
    assert len(rollout.completion) > 2


def test_the_text_is_read_up_to_the_stop_text(worded):
    policy = OneSampling(worded, replace(SAMPLING, stop=STOPS))
    assert policy.decode((3, 2, 2)) == ": "
    assert policy.decode((6,)) == ""
    plain = TransformersPolicy(worded)
    assert plain.decode((3, 2, 2)) == ": Q Q"
    assert plain.decode((6,)) == "77"
    assert plain.end_of_stop((3, 2, 2, 5), STOPS) == 3
    assert plain.end_of_stop((3, 2, 3), STOPS) is None


def test_the_likeliest_completions_end_there_too_and_nothing_is_counted_twice(worded):
    total = 10**9
    policy = OneSampling(worded, replace(SAMPLING, budget=4, stop=STOPS))
    rollouts = list(policy.expand([RolloutRequest(PROMPT, n=total)], least=1))
    assert sum(rollout.count for rollout in rollouts) == pytest.approx(total, rel=1e-3)
    for rollout in rollouts:
        end = first_end(worded.tokenizer, STOPS, rollout.completion)
        assert end in (None, len(rollout.completion))
        assert (rollout.finish == "end") == (end is not None or rollout.completion[-1] == END)


def test_the_probability_of_the_last_token_is_its_own(worded):
    policy = OneSampling(worded, replace(SAMPLING, stop=STOPS))
    for trace in policy.sample_traces(PROMPT, 20, seed=0):
        along = policy.next_token_probs(PROMPT, trace.completion)
        exact = [row.prob(token) for row, token in zip(along, trace.completion, strict=True)]
        assert trace.token_probs == pytest.approx(exact, abs=1e-4)
