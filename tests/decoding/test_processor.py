"""Think budgets and steering under transformers' own generate."""

import threading

import pytest
import torch
from transformers import TextIteratorStreamer

from pts.decoding import SteeredDecoder, TokenLimits
from pts.decoding.processor import BudgetProcessor
from pts.decoding.session import Ask
from pts.decoding.think_format import find_think_format
from pts.errors import ConfigError
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat, encode_prompt
from pts.records import Sampling
from pts.steering import interventions, load_vectors, steer

QUESTIONS = ("What is 27 + 8 - 9 ?", "What is 4 + 6 + 5 + 2 - 7 ?", "What is 3 + 4 ?")
LIMITS = {
    "full": TokenLimits(total=96),
    "nothink": TokenLimits(thinking=0, total=96),
    "budget": TokenLimits(thinking=9, total=96),
    "minimum": TokenLimits(least_thinking=70, total=96),
    "switches": TokenLimits(least_thinking=30, switches=0, total=96),
    "answer": TokenLimits(thinking=9, answer=2, total=96),
    "total": TokenLimits(total=11),
}


@pytest.fixture(scope="module")
def demo():
    return load_model(ModelOptions("demo"))


@pytest.fixture(scope="module")
def think(demo):
    return find_think_format(demo.tokenizer, PromptFormat())


@pytest.fixture(scope="module")
def vectors():
    return load_vectors("demo")


def padded(demo, questions=QUESTIONS):
    """Left-padded prompts as generate takes them."""
    prompts = [encode_prompt(demo.tokenizer, question, PromptFormat()) for question in questions]
    width = max(map(len, prompts))
    ids = torch.tensor([(0,) * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def generated(demo, inputs, processor=None, **options):
    """Completions [rows] up to and with the end token."""
    options = {"max_new_tokens": 100, "do_sample": False, **options}
    processors = [] if processor is None else [processor]
    written = demo.model.generate(**inputs, logits_processor=processors, **options)
    return written, [cut(demo, row) for row in written[:, inputs["input_ids"].shape[1] :].tolist()]


def cut(demo, row):
    ends = [at for at, token in enumerate(row) if token in demo.end_token_ids]
    return tuple(row[: ends[0] + 1] if ends else row)


def by_engine(demo, think, limits, questions=QUESTIONS, variant=()):
    """The same by our own loop."""
    decoder = SteeredDecoder(
        demo, sampling=Sampling(temperature=0.0, top_k=0, top_p=1.0, budget=96), think=think
    )
    with decoder.session([variant] if variant else []) as session:
        asks = [
            Ask(index, session.encode(question), limits, seed=index, variant=1 if variant else 0)
            for index, question in enumerate(questions)
        ]
        return {draft.ask.question: draft for draft in session.complete(asks)}


@pytest.mark.parametrize("name", LIMITS)
def test_generate_with_a_budget_is_our_own_loop(demo, think, vectors, name):
    limits = LIMITS[name]
    processor = BudgetProcessor(limits, think, end_token_ids=demo.end_token_ids, seed=[0, 1, 2])
    with steer(demo.model, vectors):
        written, completions = generated(demo, padded(demo), processor)
    drafts = by_engine(demo, think, limits, variant=interventions(vectors))
    budgets = processor.finish(written)
    for row, completion in enumerate(completions):
        draft = drafts[row]
        forced_end = draft.stop != "end"
        assert completion == draft.completion + ((3,) if forced_end else ())
        spent, expected = budgets[row], draft.budget
        counts = (spent.thinking, spent.answer, spent.switches, spent.injected, spent.stopped)
        assert counts == (
            expected.thinking,
            expected.answer,
            expected.switches,
            expected.injected,
            expected.stopped,
        )
        assert processor.injected[row] == len(expected.injected) + forced_end


def test_a_row_of_a_left_padded_batch_is_what_it_is_alone(demo, think, vectors):
    limits = LIMITS["minimum"]
    together, alone = [], []
    with steer(demo.model, vectors, {"all": 1.5}):
        for questions, into in ((QUESTIONS, together), *(((question,), alone) for question in QUESTIONS)):
            processor = BudgetProcessor(
                limits, think, end_token_ids=demo.end_token_ids, seed=[4] * len(questions)
            )
            into += generated(demo, padded(demo, questions), processor)[1]
    assert together == alone


def test_rows_of_different_variants_are_each_what_they_are_alone(demo, think, vectors):
    names = list(vectors.vectors)[:3]
    variants = [interventions(vectors, {name: 1.5}) for name in names] + [
        interventions(vectors, {names[0]: -1.5})
    ]
    question, rows = QUESTIONS[1], [0, 1, 2, 3, 4]
    limits = LIMITS["budget"]

    def budget():
        return BudgetProcessor(limits, think, end_token_ids=demo.end_token_ids)

    with steer(demo.model, variants) as steering:
        steering.rows = rows
        together = generated(demo, padded(demo, [question] * 5), budget())[1]
    alone = [generated(demo, padded(demo, [question]), budget())[1][0]]
    for variant in variants:
        with steer(demo.model, [variant]):
            alone += generated(demo, padded(demo, [question]), budget())[1]
    assert together == alone
    assert len(set(together)) > 1


def test_several_sequences_of_a_prompt_keep_their_budgets(demo, think):
    torch.manual_seed(1)
    processor = BudgetProcessor(TokenLimits(thinking=12), think, end_token_ids=[3, 2])
    written, completions = generated(
        demo,
        padded(demo, QUESTIONS[:2]),
        processor,
        do_sample=True,
        temperature=1.5,
        top_k=20,
        num_return_sequences=6,
        eos_token_id=[3, 2],
    )
    assert len(completions) == 12
    assert len(set(completions)) > 4
    end = think.end[0]
    for completion, budget in zip(completions, processor.finish(written), strict=True):
        assert end in completion[:12]
        assert budget.thinking <= 12
        assert budget.total == len(completion)
    assert any(processor.injected)


def test_streaming_gives_the_same_text(demo, think, vectors):
    inputs = padded(demo, QUESTIONS[:1])
    streamer = TextIteratorStreamer(demo.tokenizer, skip_prompt=True)
    with steer(demo.model, vectors):
        _, (expected,) = generated(
            demo, inputs, BudgetProcessor(TokenLimits(thinking=9), think, end_token_ids=demo.end_token_ids)
        )
        budget = BudgetProcessor(TokenLimits(thinking=9), think, end_token_ids=demo.end_token_ids)
        options = {**inputs, "logits_processor": [budget], "max_new_tokens": 100, "do_sample": False}
        thread = threading.Thread(target=demo.model.generate, kwargs={**options, "streamer": streamer})
        thread.start()
        said = "".join(streamer)
        thread.join()
    assert said == demo.tokenizer.decode(list(expected))


def test_no_hook_is_left_after_ctrl_c(demo, think, vectors):
    class Interrupting(BudgetProcessor):
        def __call__(self, input_ids, scores):
            self.hooks = hooks()
            if input_ids.shape[1] > 25:
                raise KeyboardInterrupt
            return super().__call__(input_ids, scores)

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in demo.model.modules())

    before, plain = hooks(), generated(demo, padded(demo))[1]
    interrupting = Interrupting(TokenLimits(), think, end_token_ids=demo.end_token_ids)
    with pytest.raises(KeyboardInterrupt), steer(demo.model, vectors, {"all": 3.0}):
        generated(demo, padded(demo), interrupting)
    assert interrupting.hooks > before
    assert hooks() == before
    assert generated(demo, padded(demo))[1] == plain


def test_what_rewrites_rows_is_refused(demo, think):
    processor = BudgetProcessor(TokenLimits(thinking=20), think, end_token_ids=demo.end_token_ids)
    with pytest.raises(ConfigError, match=r"num_beams=1"):
        generated(demo, padded(demo), processor, num_beams=4)
    processor = BudgetProcessor(TokenLimits(thinking=20), think, end_token_ids=demo.end_token_ids)
    generated(demo, padded(demo), processor)
    with pytest.raises(ConfigError, match="each call of generate"):
        generated(demo, padded(demo), processor)


@pytest.mark.parametrize(
    ("limits", "ends", "message"),
    [
        (TokenLimits(thinking=9), (3,), "needs think tags"),
        (TokenLimits(total=9), (), "an end token to force"),
        (TokenLimits(pause=True), (3,), "generate cannot"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused_at_once(limits, ends, message):
    with pytest.raises(ConfigError, match=message):
        BudgetProcessor(limits, None, end_token_ids=ends)


def test_seeds_are_one_for_all_or_one_a_row(demo, think):
    processor = BudgetProcessor(TokenLimits(thinking=9), think, end_token_ids=(3,), seed=[1, 2])
    with pytest.raises(ConfigError, match="for 2 rows; the batch has 3"):
        generated(demo, padded(demo), processor)


def test_without_think_tags_the_total_is_kept(demo):
    processor = BudgetProcessor(TokenLimits(total=7), end_token_ids=demo.end_token_ids)
    _, completions = generated(demo, padded(demo), processor)
    assert [len(completion) for completion in completions] == [8, 8, 8]
    assert processor.injected == [1, 1, 1]
