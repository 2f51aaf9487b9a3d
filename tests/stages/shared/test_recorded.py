"""A run goes on with what it recorded of model, machine, grader and its prompts' day, or says what differs."""

import datetime
import json
from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from pts.calibration.budget_measurement import BudgetMeasurement
from pts.errors import GraderError, RunError
from pts.models import hardware
from pts.models.options import ModelOptions
from pts.problems import problem_digest
from pts.records import Problem
from pts.runs.directory import RunDirectory
from pts.runs.manifest import Manifest, list_problems
from pts.runs.search_run import read_search
from pts.runs.vector_run import VECTORS
from pts.stages.decode.answer_file import answer_file, recorded_answers
from pts.stages.decode.decoder import open_decoder
from pts.stages.decode.inputs import DecodeInputs
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation
from pts.stages.extract.run import require_same_problems
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import load_again
from pts.stages.search.run import run_search
from pts.stages.shared.recorded import recorded_in, recorded_options

DATED = (
    "Today is {{ strftime_now('%d %b %Y') }}.{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Day(datetime.datetime):
    """The clock that transformers reads, for a test to set."""

    moment = datetime.datetime(2026, 3, 1, 12)

    @classmethod
    def now(cls, tz=None):
        return cls.moment


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", Day)
    monkeypatch.setattr(Day, "moment", Day.moment)
    return Day


def next_day(clock):
    clock.moment = datetime.datetime(2026, 3, 2, 12)


def tokenizer():
    letters = [chr(code) for code in range(32, 127)]
    core = Tokenizer(models.WordLevel({letter: at for at, letter in enumerate(letters)}, unk_token=" "))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="~")
    made.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    made.chat_template = DATED
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dated") / "model"
    torch.manual_seed(0)
    made, size = tokenizer(), 32
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=size, intermediate_size=size, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, eos_token_id=made.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def write(path, answers):
    rows = [
        {"id": str(at), "question": f"What is {at} + 5?", "answer": text} for at, text in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data.jsonl", ["5", "6", "7"])


@pytest.fixture
def run(model, data, tmp_path):
    return {"model": str(model), "dataset": data, "budget": 4, "output": tmp_path / "run"}


def texts(model, prompts):
    return [tokenizer().decode(list(prompt)) for prompt in prompts]


def edit(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    for part, entries in changes.items():
        manifest[part] |= entries
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_search_goes_on_with_the_day_on_which_it_began(run, model, clock):
    run_search(SearchInputs(**run, problems=1))
    next_day(clock)
    run_search(SearchInputs(**run, problems=3))
    searched = read_search(run["output"])
    written = texts(model, [result.prompt for result in searched.results])
    assert len(written) == 3
    assert all("Today is 01 Mar 2026" in text for text in written)
    assert searched.resolved.prompt_date == "2026-03-01T12:00:00"
    again = load_again(searched, "auto")
    assert again.prompt_format.written_on == "2026-03-01T12:00:00"
    run_search(SearchInputs(**run, problems=1, fresh=True))
    assert read_search(run["output"]).resolved.prompt_date == "2026-03-02T12:00:00"


def test_a_run_that_recorded_no_day_has_that_of_its_beginning_if_its_prompts_have_it(run, model, clock):
    run_search(SearchInputs(**run, problems=1))
    manifest = json.loads((run["output"] / "manifest.json").read_text())
    for name in ("prompt_date", "prompt_digest", "attention"):
        del manifest["resolved"][name]
    created = Day.moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    (run["output"] / "manifest.json").write_text(json.dumps({**manifest, "created": created}))
    next_day(clock)
    run_search(SearchInputs(**run, problems=2))
    written = texts(model, [result.prompt for result in read_search(run["output"]).results])
    assert all("Today is 01 Mar 2026" in text for text in written)
    later = {**manifest, "created": "2026-03-09T12:00:00Z"}
    (run["output"] / "manifest.json").write_text(json.dumps(later))
    with pytest.raises(RunError, match="made with other prompts"):
        run_search(SearchInputs(**run, problems=3))


def test_a_changed_template_or_tokenizer_is_said(run, clock):
    run_search(SearchInputs(**run, problems=1))
    edit(run["output"], resolved={"prompt_digest": "0" * 16})
    with pytest.raises(RunError, match="made with other prompts"):
        run_search(SearchInputs(**run, problems=2))
    with pytest.raises(RunError, match="made with other prompts"):
        load_again(read_search(run["output"]), "auto")


def test_an_evaluation_goes_on_with_its_day(run, model, clock, monkeypatch):
    asked = {**run, "strategies": ("full",), "baselines": False}
    run_evaluation(EvaluateInputs(**asked, problems=1, seeds=1))
    next_day(clock)
    seen = []
    import pts.policies.transformers.policy as policies

    encode = policies.encode_prompt
    monkeypatch.setattr(policies, "encode_prompt", lambda *given: seen.append(encode(*given)) or seen[-1])
    run_evaluation(EvaluateInputs(**asked, problems=2, seeds=1))
    assert seen
    assert all("Today is 01 Mar 2026" in text for text in texts(model, seen))


def test_a_file_of_answers_goes_on_with_its_day(model, tmp_path, clock):
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "What is 1 + 2?"}\n{"question": "What is 2 + 2?"}\n')
    run, target = DecodeInputs(model=str(model), budget=4), tmp_path / "answers.jsonl"

    def stop(answers, tokens):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_file(run, open_decoder(run, recorded_answers(target)), questions, target, stop)
    next_day(clock)
    with pytest.raises(RunError, match=r"found\.prompt_date"):
        answer_file(run, open_decoder(run), questions, target)
    decoder = open_decoder(run, recorded_answers(target))
    assert decoder.prompt_format.written_on == "2026-03-01T12:00:00"
    answer_file(run, decoder, questions, target)
    assert len(target.read_text().splitlines()) == 2
    assert recorded_answers(target) is None


def test_a_larger_run_keeps_the_grader_that_it_recorded(run, tmp_path):
    write(tmp_path / "data.jsonl", ["5", "6", "x"])
    run_search(SearchInputs(**run, problems=2))
    recorded = read_search(run["output"]).resolved.grader
    run_search(SearchInputs(**run, problems=3))
    assert read_search(run["output"]).resolved.grader == recorded
    evaluated = {**run, "output": tmp_path / "eval", "strategies": ("full",), "baselines": False, "seeds": 1}
    first = run_evaluation(EvaluateInputs(**evaluated, problems=2))
    assert run_evaluation(EvaluateInputs(**evaluated, problems=3)).grader == first.grader == recorded


def test_a_reference_that_the_recorded_grader_cannot_read_is_said(run, tmp_path):
    prose = "because the sum of two odd numbers is even and so on and on"
    write(tmp_path / "data.jsonl", ["5", "6", prose])
    run_search(SearchInputs(**run, problems=2))
    before = (run["output"] / "problems.jsonl").read_bytes()
    with pytest.raises(GraderError, match=r"goes on with the grader that it recorded, math"):
        run_search(SearchInputs(**run, problems=3))
    assert (run["output"] / "problems.jsonl").read_bytes() == before


def test_auto_is_what_was_recorded_on_another_machine(run, monkeypatch):
    run_search(SearchInputs(**run, problems=1))
    # A machine on which "auto" means another dtype for this model.
    monkeypatch.setattr(hardware, "_SMALL", 0)
    monkeypatch.setattr(hardware, "cpu_computes_bfloat16", lambda: True)
    run_search(SearchInputs(**run, problems=2))
    assert read_search(run["output"]).resolved.dtype == "float32"
    assert load_again(read_search(run["output"]), "auto").loaded.dtype == torch.float32
    with pytest.raises(RunError, match='dtype "auto" → "bfloat16"'):
        run_search(SearchInputs(**run, problems=2, dtype="bfloat16"))


def test_what_the_model_computes_with_is_compared_by_the_stages_that_follow(run):
    run_search(SearchInputs(**run, problems=1))
    edit(run["output"], resolved={"attention": "flash"})
    with pytest.raises(RunError, match="attention flash → sdpa"):
        load_again(read_search(run["output"]), "auto")
    with pytest.raises(RunError, match="attention"):
        run_search(SearchInputs(**run, problems=2))


def test_a_device_that_is_not_here_has_to_be_replaced_by_the_user(run, caplog):
    run_search(SearchInputs(**run, problems=1))
    edit(run["output"], environment={"device": "cuda:0"})
    if torch.cuda.is_available():
        pytest.skip("the device is here")
    with pytest.raises(RunError, match="made on cuda, which is not here: give device='cpu'"):
        run_search(SearchInputs(**run, problems=2))
    with pytest.raises(RunError, match="device='cpu'"):
        load_again(read_search(run["output"]), "auto")
    run_search(SearchInputs(**run, problems=2, device="cpu"))
    assert "began on cuda and continues on cpu" in caplog.text


def test_an_extraction_does_not_go_on_with_other_problems(tmp_path):
    def manifest(listed):
        return Manifest("vectors", "2026-03-01", {}, {}, {}, list_problems(listed), {})

    problems = [Problem("1", "What is 2 + 5?", "7"), Problem("2", "What is 2 + 6?", "8")]
    directory = RunDirectory(tmp_path, VECTORS, None)
    digests, ids = [problem_digest(problem) for problem in problems], ["1", "2"]
    require_same_problems(directory, manifest(digests), problems)
    require_same_problems(directory, manifest(ids), problems)  # As earlier versions listed them.
    changed = [problems[0], Problem("2", "What is 2 + 6?", "9")]
    with pytest.raises(RunError, match="measured on other problems"):
        require_same_problems(directory, manifest(digests), changed)


def test_a_fit_of_a_router_does_not_go_on_with_other_problems(tmp_path):
    asked = {"problem_list": "one", "model_revision": "a"}
    problems = [Problem("1", "What is 2 + 5?", "7")]

    def measurement(asked):
        return BudgetMeasurement(problems, lambda *_: True, 1, 0, tmp_path / "router.jsonl", asked)

    measurement({"model_revision": "a"})
    measurement(asked)  # An earlier version did not record the problems.
    (tmp_path / "router.jsonl").unlink()
    measurement(asked)
    with pytest.raises(RunError, match='problem_list "one" → "two"'):
        measurement({**asked, "problem_list": "two"})


def test_a_model_of_the_hub_stays_at_the_commit_with_which_a_run_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commit = "0123456789abcdef0123456789abcdef01234567"
    options = ModelOptions("owner/name")
    for revision in (commit, f"{commit}+sha256:00"):
        recorded = recorded_in({"model_revision": revision}, "run")
        assert recorded_options(options, recorded).revision == commit
        assert recorded_options(replace(options, revision="main"), recorded).revision == commit
    for revision in ("sha256:" + "0" * 40, None):
        assert recorded_options(options, recorded_in({"model_revision": revision}, "run")).revision is None
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert recorded_options(options, recorded).revision is None
