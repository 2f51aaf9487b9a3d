"""Whatever the Hub or the connection refuses is one line, nothing is half published, and again is safe."""

import time

import pytest
from huggingface_hub import HfApi

from pts.publishing import hub as pushing
from pts.publishing.hub_errors import PublishError
from tests.publishing.hub_repository import READ, Blob
from tests.publishing.hub_server import Fault
from tests.publishing.test_push import COMMIT, push

STORE = r"^PUT /storage/"


def failure(api, directory, **settings):
    with pytest.raises(PublishError) as caught:
        push(api, directory, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def untouched(hub, repo_id="me/set"):
    """No repository, or one that holds no file and no tag of ours."""
    repository = hub.repositories.get(("dataset", repo_id))
    return repository is None or (set(repository.files()) == {".gitattributes"} and not repository.tags)


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))


def test_no_token(hub, vectors_dir, no_token):
    assert "no token for the Hub" in failure(HfApi(endpoint=hub.url), vectors_dir)
    assert hub.asked == []


def test_a_token_that_is_not_known(hub, vectors_dir):
    said = failure(HfApi(endpoint=hub.url, token="hf_wrong"), vectors_dir)
    assert "does not accept the token (401" in said
    assert untouched(hub)


def test_a_token_that_may_only_read(hub, vectors_dir):
    said = failure(HfApi(endpoint=hub.url, token=READ), vectors_dir)
    assert "may not write to me/set (403" in said
    assert untouched(hub)


def test_a_name_of_somebody_else(hub, api, vectors_dir):
    assert "may not write to other/set" in failure(api, vectors_dir, repo_id="other/set")
    hub.make("other/set")
    assert "create_pr=True" in failure(api, vectors_dir, repo_id="other/set")
    assert untouched(hub, "other/set")


@pytest.mark.parametrize(
    ("pattern", "status", "message", "said"),
    [
        ("repos/create", 409, "This name is reserved", "name me/set is taken (409: This name is reserved)"),
        ("whoami", 429, "slow down", "wants fewer requests"),
        ("repos/create", 500, "oops", "the Hub has trouble (500: oops). A commit is made whole"),
        (COMMIT, 412, "A commit has happened since", "somebody else committed to me/set meanwhile"),
        (COMMIT, 413, "payload", "no room for these files"),
        (COMMIT, 403, "Private repository storage limit reached", "no room for these files"),
        (COMMIT, 403, "Forbidden", "may not write to me/set (403: Forbidden)"),
        (COMMIT, 400, "bad path", "the Hub refuses this for me/set (400: bad path)"),
        (COMMIT, 503, "maintenance", "the Hub has trouble (503: maintenance)"),
        ("objects/batch", 403, "over your storage quota", "no room for these files"),
        (STORE, 413, "EntityTooLarge", "no room for these files"),
        (STORE, 403, "Forbidden", "may not write"),
    ],
)
def test_a_refusal_at_any_step_leaves_nothing(hub, api, vectors_dir, pattern, status, message, said):
    hub.faults = [Fault(pattern, status, message)]
    assert said in failure(api, vectors_dir)
    assert untouched(hub)
    hub.faults = []
    assert push(api, vectors_dir).tag == "v1"


@pytest.mark.parametrize(
    "pattern", ["whoami", "repos/create", "/refs", "/tree/", "preupload", "objects/batch", STORE, COMMIT]
)
def test_a_connection_lost_at_any_step_leaves_nothing(hub, api, vectors_dir, pattern):
    hub.faults = [Fault(pattern, "drop")]
    said = failure(api, vectors_dir)
    assert "lost the connection to the Hub" in said
    assert "again is safe" in said
    assert untouched(hub)
    hub.faults = []
    assert push(api, vectors_dir).tag == "v1"
    assert hub.count(COMMIT) == 1


def test_an_upload_that_fails_once_is_taken_up_again(hub, api, vectors_dir):
    hub.faults = [Fault(STORE, "drop", times=1), Fault("preupload", 503, times=1)]
    assert push(api, vectors_dir).tag == "v1"


def test_an_answer_lost_after_the_commit_makes_no_second_commit(hub, api, vectors_dir):
    hub.faults = [Fault(COMMIT, "drop after", times=1)]
    assert "lost the connection" in failure(api, vectors_dir)
    done = push(api, vectors_dir)
    assert (done.committed, done.tag, done.tagged) == (False, "v1", True)
    assert hub.count(COMMIT) == 1


@pytest.mark.parametrize("action", ["drop", 500, 403])
def test_a_tag_that_fails_after_the_commit_is_added_the_next_time(hub, api, vectors_dir, action):
    hub.faults = [Fault("/tag/", action, times=1)]
    said = failure(api, vectors_dir)
    assert "the files are published in commit" in said
    assert "tag v1 could not be added" in said
    assert "The same command again adds it." in said
    done = push(api, vectors_dir)
    assert (done.committed, done.tag, done.tagged) == (False, "v1", True)
    assert hub.repository("me/set").tags == {"v1": done.commit}


def test_a_hub_that_goes_silent(hub, api, vectors_dir, monkeypatch):
    monkeypatch.setattr(pushing, "ANSWER_WITHIN", 0.5)
    hub.faults = [Fault(COMMIT, "silence")]
    begun = time.monotonic()
    assert "lost the connection" in failure(api, vectors_dir)
    # The server itself would hang up after 30 seconds.
    assert time.monotonic() - begun < 20
    assert untouched(hub)


def test_no_hub_there(vectors_dir):
    api = HfApi(endpoint="http://127.0.0.1:9", token=READ)
    assert "lost the connection to the Hub" in failure(api, vectors_dir)


def test_offline(hub, api, vectors_dir, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in failure(api, vectors_dir)


def test_a_header_that_the_hub_refuses(hub, api, vectors_dir):
    (vectors_dir / "README.md").write_text("---\nlicense: no-such-licence\n---\n# Mine\n")
    assert '"license" must be one of' in failure(api, vectors_dir)
    assert untouched(hub)


def test_another_push_in_between_is_noticed(hub, api, vectors_dir, monkeypatch):
    push(api, vectors_dir)
    repository = hub.repository("me/set")
    create_commit = HfApi.create_commit

    def after_somebody_else(self, *arguments, **settings):
        files = {**repository.files(), "LICENSE": Blob(b"MIT", False)}
        repository.branches["main"] = repository.commit(files, "Add LICENSE")
        return create_commit(self, *arguments, **settings)

    monkeypatch.setattr(HfApi, "create_commit", after_somebody_else)
    (vectors_dir / "records.parquet").unlink()
    assert "somebody else committed to me/set meanwhile" in failure(api, vectors_dir)
    assert repository.messages[-1] == "Add LICENSE"
