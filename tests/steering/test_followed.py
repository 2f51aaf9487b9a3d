"""No text is left unsteered unnoticed: every mode of generate and passes by hand, against adding by hand."""

import warnings

import pytest
import torch
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache

from pts.errors import ConfigError, ModelError
from pts.models.decoder_layers import decoder_layers, residual_of
from pts.steering.hooks import Intervention, UnsteeredWarning, steer
from pts.steering.vector_set import Gate
from tests.policies.tiny import tiny_model

PROMPT = (5, 9, 12, 7, 5, 9, 12, 7)
LAYER, NEW = 1, 10
VECTOR = 2 * torch.randn(32, generator=torch.Generator().manual_seed(3))
IDS = torch.tensor([PROMPT])


@pytest.fixture(scope="module")
def model():
    return tiny_model("qwen3").model


@pytest.fixture(scope="module")
def other():
    return tiny_model("qwen3", seed=5).model


@pytest.fixture(scope="module")
def expected(model):
    return by_hand(model, IDS)


def add_behind(model, width, layer=LAYER):
    """A plain hook that adds at every column from `width` on, in passes over whole texts."""

    def hook(_module, _args, output):
        hidden = residual_of(output)
        hidden = hidden + (torch.arange(hidden.shape[1]) >= width)[None, :, None] * VECTOR
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return decoder_layers(model)[layer].register_forward_hook(hook)


def by_hand(model, ids, mask=None):
    """Greedy texts by passes over the whole of them, the vector added behind the prompt."""
    width, written = ids.shape[1], ids
    handle = add_behind(model, width)
    for _ in range(NEW):
        more = torch.ones(len(ids), written.shape[1] - width, dtype=torch.long)
        whole = torch.cat([torch.ones_like(ids) if mask is None else mask, more], 1)
        places = (whole.cumsum(-1) - 1).clamp(min=0)
        logits = model(written, attention_mask=whole, position_ids=places, use_cache=False).logits
        written = torch.cat([written, logits[:, -1].argmax(-1, keepdim=True)], 1)
    handle.remove()
    return written.tolist()


def generated(model, ids=IDS, **options):
    if "inputs_embeds" not in options:
        options = {"attention_mask": torch.ones_like(ids), **options}
    return model.generate(ids, max_new_tokens=NEW, do_sample=False, eos_token_id=None, **options)


def prefilled(model, tokens, ids=IDS):
    cache = DynamicCache(config=model.config)
    model(ids[:, :tokens], past_key_values=cache, use_cache=True)
    return cache


def always():
    return [[Intervention(LAYER, VECTOR)]]


MODES = {
    "plain": {},
    "no cache": {"use_cache": False},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "an assistant that leaves the target early": {"assistant_early_exit": 1},
    "static cache": {"cache_implementation": "static"},
    "chunked prompt": {"prefill_chunk_size": 3},
    "chunked prompt in a static cache": {"prefill_chunk_size": 3, "cache_implementation": "static"},
}


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_generate_steers_what_it_writes(name, mode):
    own = tiny_model(name).model
    expected = by_hand(own, IDS)
    assert generated(own, **MODES[mode]).tolist() != expected
    with steer(own, always()) as steering:
        assert generated(own, **MODES[mode]).tolist() == expected
    assert (steering.positions_seen, steering.positions_steered) == (NEW - 1, NEW - 1)


@pytest.mark.parametrize("itself", [True, False])
def test_drafts_of_an_assistant_change_nothing(model, other, expected, itself):
    with steer(model, always()) as steering:
        written = generated(model, assistant_model=model if itself else other)
    assert written.tolist() == expected
    assert steering.positions_steered == NEW - 1


@pytest.mark.parametrize("tokens", [3, len(PROMPT) - 1])
@pytest.mark.parametrize("inside", [True, False])
def test_a_prompt_whose_beginning_is_cached_is_not_steered(model, expected, tokens, inside):
    cache = None if inside else prefilled(model, tokens)
    with warnings.catch_warnings(), steer(model, always()) as steering:
        warnings.simplefilter("error", UnsteeredWarning)
        cache = prefilled(model, tokens) if cache is None else cache
        assert generated(model, past_key_values=cache).tolist() == expected
    assert steering.positions_steered == NEW - 1
    rest, mask = IDS[:, tokens:], torch.ones_like(IDS)
    with steer(model, always()):
        written = generated(model, rest, attention_mask=mask, past_key_values=prefilled(model, tokens))
    assert written[:, rest.shape[1] :].tolist()[0] == expected[0][len(PROMPT) :]


def test_embeddings_as_a_prompt(model, expected):
    with steer(model, always()) as steering:
        written = generated(model, None, inputs_embeds=model.get_input_embeddings()(IDS))
    assert written[0].tolist() == expected[0][len(PROMPT) :]
    assert steering.positions_steered == NEW - 1


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_left_padding_in_every_mode(model, options):
    wide = torch.tensor([(0, 0, 0, *PROMPT), (4, 8, 2, *PROMPT)])
    mask = torch.tensor([[0] * 3 + [1] * 8, [1] * 11])
    with steer(model, always()) as steering:
        written = generated(model, wide, attention_mask=mask, **options)
    assert written.tolist() == by_hand(model, wide, mask)
    assert steering.positions_steered == 2 * (NEW - 1)


@pytest.mark.parametrize("options", [{}, {"use_cache": False}])
def test_beams_and_several_sequences_are_rows(model, expected, options):
    handle = add_behind(model, len(PROMPT))
    beams = generated(model, num_beams=3, use_cache=False).tolist()
    handle.remove()
    with steer(model, always()) as steering:
        assert generated(model, num_beams=3, **options).tolist() == beams
        assert steering.positions_steered == 3 * (NEW - 1)
        drawn = model.generate(
            IDS,
            attention_mask=torch.ones_like(IDS),
            do_sample=True,
            top_k=1,
            num_return_sequences=3,
            max_new_tokens=NEW,
            eos_token_id=None,
            **options,
        )
    assert drawn.tolist() == expected * 3
    assert steering.positions_steered == 6 * (NEW - 1)


def test_prompts_of_several_lengths_after_one_another(model, expected):
    short = IDS[:, :3]
    with steer(model, always()) as steering:
        for _ in range(20):  # more texts than are kept one by one
            assert generated(model).tolist() == expected
            assert generated(model, short).tolist() == by_hand_once(model, short)
    assert steering.positions_steered == 40 * (NEW - 1)


_KNOWN: dict = {}


def by_hand_once(model, ids):
    """The reference, made while no other steering is on."""
    key = tuple(ids[0].tolist())
    if key not in _KNOWN:
        _KNOWN[key] = by_hand(tiny_model("qwen3").model, ids)
    return _KNOWN[key]


def decoded(call, cached):
    """A greedy loop by hand over `call`."""
    read = written = IDS
    past = DynamicCache() if cached == "given" else None
    for _ in range(NEW):
        options = {} if cached is None else {"past_key_values": past, "use_cache": True}
        output = call(read, **options)
        past = None if cached is None else output.past_key_values
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        written = torch.cat([written, token], 1)
        read = written if cached is None else token
    return written.tolist()


@pytest.mark.parametrize("cached", ["given", "returned", None])
@pytest.mark.parametrize("direct", [True, False])
def test_loops_by_hand(model, expected, cached, direct):
    with steer(model, always()) as steering:
        assert decoded(model.forward if direct else model, cached) == expected
    assert steering.positions_steered == NEW - 1


def test_a_loop_that_generate_was_told_to_run_instead_of_its_own(model, expected):
    def loop(model, input_ids, **_):
        for _ in range(NEW):
            logits = model(input_ids).logits[:, -1]
            input_ids = torch.cat([input_ids, logits.argmax(-1, keepdim=True)], 1)
        return input_ids

    with steer(model, always()) as steering:
        assert generated(model, custom_generate=loop).tolist() == expected
        assert steering.positions_steered == NEW - 1
        with pytest.raises(ModelError, match="none of the positions was steered"):
            generated(model, custom_generate=lambda model, input_ids, **_: torch.cat([input_ids] * 2, 1))
        assert (
            GenerationMixin.generate(
                model,
                IDS,
                attention_mask=torch.ones_like(IDS),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=None,
            ).tolist()
            == expected
        )


def test_a_wrapped_model(expected):
    peft = pytest.importorskip("peft")
    base = tiny_model("qwen3").model
    wrapped = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], r=2)).eval()
    with steer(wrapped, always()) as steering:
        assert (
            wrapped.generate(
                input_ids=IDS,
                attention_mask=torch.ones_like(IDS),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=None,
            ).tolist()
            == expected
        )
        assert decoded(wrapped, "returned") == expected
    assert steering.positions_steered == 2 * (NEW - 1)


def test_the_caller_says_what_is_prompt_where_passes_do_not(model, expected):
    whole = torch.tensor(expected)[:, :-1]
    with steer(model, always()) as steering:
        with pytest.raises(ConfigError, match=r"a pass with labels .* set steering\.prompt_tokens"):
            model(whole, labels=whole)
        steering.prompt_tokens = len(PROMPT)
        logits = model(whole, labels=whole).logits
        assert logits.argmax(-1)[0, len(PROMPT) - 1 :].tolist() == expected[0][len(PROMPT) :]
        assert steering.positions_steered == NEW - 1
        cache = prefilled(model, 3)
        model(IDS[:, 3:], past_key_values=cache)
        assert steering.positions_steered == NEW - 1
        steering.prompt_tokens = [3, len(PROMPT)]
        model(torch.cat([IDS] * 2))
        assert steering.positions_steered == NEW - 1 + len(PROMPT) - 3
        with pytest.raises(ConfigError, match="has 2 numbers; the batch has 1 rows"):
            model(IDS)


def test_a_cache_from_elsewhere_and_several_tokens_behind_a_prompt_are_refused_by_hand(model):
    outside = prefilled(model, 5)
    with steer(model, always()) as steering:
        with pytest.raises(ConfigError, match="5 cached tokens that were read before steering began"):
            model(IDS[:, 5:6], past_key_values=outside)
        inside = prefilled(model, 3)
        with pytest.raises(ConfigError, match="reads 5 tokens after 3 cached ones"):
            model(IDS[:, 3:], past_key_values=inside)
        steering.prompt_tokens = 5
        model(IDS[:, 5:6], past_key_values=outside)
        assert steering.positions_steered == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_implementation": "paged"}, "paged cache"),
        ({"num_beams": 2}, "give them one variant"),
        ({"prompt_lookup_num_tokens": 3, "past_key_values": 3}, "reads the prompt again"),
    ],
)
def test_modes_that_cannot_be_followed_are_refused(model, options, message):
    if "past_key_values" in options:
        options = {**options, "past_key_values": prefilled(model, 3)}
    with steer(model, [*always(), *always()]) as steering:
        steering.rows = [1, 2] if "num_beams" in options else None
        with pytest.raises(ConfigError, match=message):
            generated(model, **options)
        with pytest.raises(ConfigError, match="continuous batching"):
            model.generate_batch([[1, 2]])
        generated(model, IDS if steering.rows is None else torch.cat([IDS] * 2))


def test_a_compiled_model_is_refused(model):
    with (
        pytest.raises(ModelError, match="before compiling"),
        steer(torch.compile(model, backend="eager"), always()),
    ):
        pass
    forward = model.forward
    model.forward = torch.compile(forward, backend="eager")
    with pytest.raises(ModelError, match="before compiling"), steer(model, always()):
        pass
    del model.forward


@pytest.mark.parametrize("read", ["one pass", "one new token"])
def test_leaving_with_nothing_steered_warns(model, read):
    context = steer(model, always())
    steering = context.__enter__()
    if read == "one pass":
        model(IDS)
    else:
        model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=1, do_sample=False)
    with pytest.warns(UnsteeredWarning, match="1 of 1 batches"):
        context.__exit__(None, None, None)
    assert steering.positions_seen == 0


def test_a_gate_that_never_opened_is_told_from_nothing_to_steer(model):
    shut = Gate("probe", threshold=1e9, weight=VECTOR)
    with warnings.catch_warnings(), steer(model, [[Intervention(LAYER, VECTOR, shut)]]) as steering:
        warnings.simplefilter("error", UnsteeredWarning)
        generated(model)
    assert (steering.positions_seen, steering.positions_steered) == (NEW - 1, 0)


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"prompt_lookup_num_tokens": 3}])
def test_open_gates_are_counted_each_position_once(model, options):
    read = generated(model)[0, len(PROMPT) : -1].tolist()
    gate = Gate("tokens", token_ids=(read[0], read[4]))
    opened = sum(token in gate.token_ids for token in read)
    # Two interventions, of which one adds at a layer of its own, open at the same positions.
    variant = [Intervention(LAYER, 0 * VECTOR, gate), Intervention(0, 0 * VECTOR, gate)]
    with steer(model, [variant]) as steering:
        generated(model, **options)
    assert (steering.positions_seen, steering.positions_steered) == (NEW - 1, opened)
    assert 0 < opened < NEW - 1


def test_open_gates_are_counted_row_by_row_in_long_texts(model):
    new, ids = 100, torch.tensor([PROMPT, PROMPT[::-1], PROMPT])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": new, "eos_token_id": None}
    read = model.generate(ids, do_sample=False, **options)[:, len(PROMPT) : -1].tolist()
    gates = [Gate("tokens", token_ids=tuple(set(row[at::7]))) for at, row in enumerate(read[1:])]
    with steer(model, [[Intervention(LAYER, 0 * VECTOR, gate)] for gate in gates]) as steering:
        steering.rows = [0, 1, 2]
        model.generate(ids, do_sample=False, **options)
        opened = [
            sum(token in gate.token_ids for token in row) for gate, row in zip(gates, read[1:], strict=True)
        ]
        assert (steering.positions_seen, steering.positions_steered) == (2 * (new - 1), sum(opened))
    assert all(0 < count < new - 1 for count in opened)


def test_rows_without_a_variant_are_not_counted(model):
    shut = Gate("probe", threshold=1e9, weight=VECTOR)
    with steer(model, [[Intervention(LAYER, VECTOR)], [Intervention(0, VECTOR, shut)]]) as steering:
        steering.rows = [0, 1, 2]
        generated(model, torch.cat([IDS] * 3))
    assert (steering.positions_seen, steering.positions_steered) == (2 * (NEW - 1), NEW - 1)


def test_one_steering_within_another_adds_up_and_both_leave_nothing(model, expected):
    half = [[Intervention(LAYER, 0.5 * VECTOR)]]
    with warnings.catch_warnings(), steer(model, half) as outer, steer(model, half) as inner:
        warnings.simplefilter("error", UnsteeredWarning)
        assert generated(model).tolist() == expected
    assert outer.positions_steered == inner.positions_steered == NEW - 1
    assert not {"generate", "prepare_inputs_for_generation"} & set(vars(model))
