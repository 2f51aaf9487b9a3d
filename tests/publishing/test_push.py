"""A push with the Hub's real client: what arrives, what a second push does, versions, branches, requests."""

import pytest
from huggingface_hub import HfApi

from pts.publishing.contents import read_contents
from pts.publishing.hub import publish
from pts.publishing.hub_errors import PublishError
from pts.publishing.target import Target
from tests.publishing.artifacts import vector_set, write_vector_set
from tests.publishing.hub_repository import READ, Blob

COMMIT = r"^POST .*/commit/"


def push(api, directory, repo_id="me/set", **settings):
    target = Target(repo_id, **settings)
    return publish(read_contents(directory, target), target, api)


def refused(api, directory, said, **settings):
    with pytest.raises(PublishError, match=said) as caught:
        push(api, directory, **settings)
    assert "\n" not in str(caught.value)


def test_a_new_data_set_has_the_files_in_one_commit_and_a_tag(hub, api, vectors_dir):
    done = push(api, vectors_dir)
    repository = hub.repository("me/set")
    files = repository.files("v1")
    assert set(files) - {".gitattributes"} == {
        "vectors.json",
        "vectors.safetensors",
        "records.parquet",
        "README.md",
    }
    for name in ("vectors.json", "vectors.safetensors", "records.parquet"):
        assert files[name].content == (vectors_dir / name).read_bytes()
    assert files["records.parquet"].lfs
    assert not files["vectors.json"].lfs
    assert hub.count(COMMIT) == 1
    assert repository.messages[-1] == "Steering vectors of Qwen/Qwen3-0.6B: self_correction, unlabelled"
    assert (done.committed, done.tag, done.tagged, done.pull_request) == (True, "v1", True, None)
    assert repository.tags == {"v1": done.commit}
    assert done.url == f"{hub.url}/datasets/me/set"
    assert not repository.private


def test_the_same_content_again_changes_nothing(hub, api, vectors_dir):
    first = push(api, vectors_dir)
    uploads = hub.count("^PUT ")
    again = push(api, vectors_dir)
    assert (again.committed, again.commit, again.tag, again.tagged) == (False, first.commit, "v1", False)
    assert hub.count(COMMIT) == 1
    assert hub.count("^PUT ") == uploads
    assert hub.count("/tag/") == 1


def test_other_content_is_the_next_version_and_sends_only_what_changed(hub, api, vectors_dir):
    push(api, vectors_dir)
    uploads = hub.count("^PUT ")
    write_vector_set(vectors_dir, vector_set(scale=0.6))
    done = push(api, vectors_dir)
    assert (done.committed, done.tag) == (True, "v2")
    assert hub.count("^PUT ") == uploads
    repository = hub.repository("me/set")
    assert repository.files("v1")["vectors.json"].content != repository.files("v2")["vectors.json"].content


def test_records_that_the_set_no_longer_has_leave_the_repository(hub, api, vectors_dir):
    push(api, vectors_dir)
    (vectors_dir / "records.parquet").unlink()
    push(api, vectors_dir)
    repository = hub.repository("me/set")
    assert "records.parquet" not in repository.files()
    assert "records.parquet" in repository.files("v1")


def test_a_tag_is_never_moved(hub, api, vectors_dir):
    assert push(api, vectors_dir, tag="paper").tag == "paper"
    again = push(api, vectors_dir, tag="paper")
    assert (again.committed, again.tagged) == (False, False)
    write_vector_set(vectors_dir, vector_set(scale=0.6))
    refused(api, vectors_dir, "has the tag paper with other content", tag="paper")
    assert hub.count(COMMIT) == 1
    refused(api, vectors_dir, "main is a branch", tag="main")


def test_somebody_elses_commit_beside_ours_makes_no_version(hub, api, vectors_dir):
    push(api, vectors_dir)
    repository = hub.repository("me/set")
    files = {**repository.files(), "LICENSE": Blob(b"MIT", False)}
    repository.branches["main"] = repository.commit(files, "Add LICENSE")
    done = push(api, vectors_dir)
    assert (done.committed, done.tag, done.tagged) == (False, "v1", False)


def test_a_model_repository(hub, api, vectors_dir):
    done = push(api, vectors_dir, repo_type="model")
    assert done.url == f"{hub.url}/me/set"
    assert "library_name: pts" in hub.repository("me/set", "model").files()["README.md"].content.decode()


def test_a_private_repository_and_one_that_is_public_already(hub, api, vectors_dir):
    push(api, vectors_dir, private=True)
    assert hub.repository("me/set").private
    push(api, vectors_dir, private=True)
    hub.make("me/open")
    refused(api, vectors_dir, "exists and is public", repo_id="me/open", private=True)
    assert set(hub.repository("me/open").files()) == {".gitattributes"}


def test_an_organisations_repository(hub, api, vectors_dir):
    push(api, vectors_dir, repo_id="lab/set")
    assert ("dataset", "lab/set") in hub.repositories


def test_a_branch(hub, api, vectors_dir):
    push(api, vectors_dir)
    api.create_branch("me/set", branch="dev", repo_type="dataset")
    write_vector_set(vectors_dir, vector_set(scale=0.6))
    push(api, vectors_dir, revision="dev")
    repository = hub.repository("me/set")
    assert repository.files("main") == repository.files("v1")
    assert repository.files("dev") == repository.files("v2")
    refused(api, vectors_dir, "no branch nowhere; it has dev, main", revision="nowhere")
    refused(api, vectors_dir, "does not exist yet", repo_id="me/new", revision="dev")
    assert ("dataset", "me/new") not in hub.repositories


def test_a_pull_request_and_a_commit_to_it(hub, vectors_dir):
    repository = hub.make("other/set")
    reader = HfApi(endpoint=hub.url, token=READ)
    done = push(reader, vectors_dir, repo_id="other/set", create_pr=True)
    assert done.pull_request == f"{hub.url}/datasets/other/set/discussions/1"
    assert (done.tag, repository.tags) == (None, {})
    assert set(repository.files()) == {".gitattributes"}
    assert "vectors.json" in repository.files("refs/pr/1")


def test_a_further_commit_to_a_pull_request(hub, api, vectors_dir):
    push(api, vectors_dir)
    write_vector_set(vectors_dir, vector_set(scale=0.6))
    push(api, vectors_dir, create_pr=True)
    write_vector_set(vectors_dir, vector_set(scale=0.7))
    done = push(api, vectors_dir, revision="refs/pr/1")
    repository = hub.repository("me/set")
    assert done.tag is None
    assert repository.requests["refs/pr/1"] == done.commit
    assert set(repository.tags) == {"v1"}


def test_a_pull_request_to_nothing(hub, api, vectors_dir):
    refused(api, vectors_dir, "nothing to open a pull request against", create_pr=True)
    assert hub.repositories == {}


def test_a_search_run(hub, api, run_dir):
    push(api, run_dir, repo_id="me/found")
    assert set(hub.repository("me/found").files()) - {".gitattributes"} == {
        "manifest.json",
        "pivotal_tokens.parquet",
        "summary.json",
        "README.md",
    }


def test_a_repository_of_something_else_is_left_alone(hub, api, vectors_dir, run_dir):
    push(api, run_dir, repo_id="me/found")
    refused(api, vectors_dir, "holds a search run, not a vector set", repo_id="me/found")
    other = hub.make("me/corpus")
    other.branches["main"] = other.commit({"data/train.parquet": Blob(b"rows", True)}, "corpus")
    refused(api, vectors_dir, r"holds other files \(data\)", repo_id="me/corpus")
    hub.make("me/weights", "model")
    refused(api, vectors_dir, "taken by a model repository", repo_id="me/weights")
    assert ("dataset", "me/weights") not in hub.repositories


def test_a_repository_that_somebody_began_by_hand(hub, api, vectors_dir):
    begun = hub.make("me/set")
    begun.branches["main"] = begun.commit({"README.md": Blob(b"---\nlicense: mit\n---\n", False)}, "begin")
    assert push(api, vectors_dir).tag == "v1"


def test_a_gitignore_that_keeps_a_file_out_is_noticed(hub, api, vectors_dir):
    begun = hub.make("me/set")
    begun.branches["main"] = begun.commit({".gitignore": Blob(b"vectors.json\n", False)}, "begin")
    refused(api, vectors_dir, "left vectors.json out of commit")
