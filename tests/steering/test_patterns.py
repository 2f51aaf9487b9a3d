"""Clusters where they were planted and none on noise; names where the words are evidence and nowhere else.

Not asserted: that the p-value is uniform on noise far out in its tail, which few draws of a null cannot give.
`benchmarks/patterns.py` measures specificity at every k and on more seeds than there is time for here.
"""

from pathlib import Path

import numpy as np
import pytest
from patterns import NOISE, agreement, planted

from pts.demo.expressions import Operation
from pts.demo.sentences import alternative, check, correction, ordering_word, split
from pts.errors import DataError
from pts.lexicon import DEFAULT_LEXICON, Lexicon, label_pivot, read_lexicon
from pts.steering.clusters import cluster_contrasts
from pts.steering.pattern_source import PatternSource, source_sentence
from pts.steering.patterns import Pivot, find_patterns, name_clusters, pattern_groups

# --- is there structure, and how much


@pytest.mark.parametrize("kind", NOISE)
def test_noise_has_no_structure(kind: str) -> None:
    # At most 1 of 6: a rate of 2% false alarms fails this in 7 of 1000 kinds; the seeds are fixed.
    found = [
        cluster_contrasts(NOISE[kind](np.random.default_rng(s), 150, 128), s, max_k=4).k > 1 for s in range(6)
    ]
    assert sum(found) <= 1


@pytest.mark.slow
def test_gaussian_noise_has_no_structure_in_38_of_40_seeds() -> None:
    found = [
        cluster_contrasts(NOISE["decaying"](np.random.default_rng(s), 120, 128), s, max_k=3).k > 1
        for s in range(40)
    ]
    assert sum(found) <= 2


@pytest.mark.parametrize(("k", "n", "hidden"), [(3, 200, 128), (4, 300, 512), (5, 600, 1024)])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_clusters_are_recovered(k: int, n: int, hidden: int, seed: int) -> None:
    contrasts, labels = planted(np.random.default_rng(seed), k, n, hidden, separation=1.0)
    clusters = cluster_contrasts(contrasts, seed)
    assert clusters.k == k
    assert agreement(clusters.labels, labels) >= 0.9
    assert clusters.p_value < 1e-6
    assert clusters.stability > clusters.null_stabilities[k]
    assert (np.diff(np.bincount(clusters.labels)) <= 0).all()


def test_scale_does_not_count() -> None:
    rng = np.random.default_rng(2)
    contrasts, _ = planted(rng, 3, 200, 128, 1.0)
    scaled = contrasts * rng.lognormal(0, 2, (200, 1))
    assert (cluster_contrasts(contrasts, 0, 4).labels == cluster_contrasts(scaled, 0, 4).labels).all()


def test_same_seed_same_clusters() -> None:
    contrasts, _ = planted(np.random.default_rng(3), 3, 150, 128, 0.6)
    first, second = cluster_contrasts(contrasts, 5, 4), cluster_contrasts(contrasts, 5, 4)
    assert first.p_value == second.p_value
    assert (first.labels == second.labels).all()


@pytest.mark.parametrize("contrasts", [np.ones((50, 8)), np.zeros((50, 8)), np.eye(12), np.ones((1, 4))])
def test_too_little_to_tell_is_one_cluster(contrasts: np.ndarray) -> None:
    clusters = cluster_contrasts(contrasts, 0)
    assert (clusters.k, clusters.p_value) == (1, 1.0)
    assert (clusters.labels == 0).all()


def test_contrasts_of_width_one_and_repeated_rows_do_not_fail() -> None:
    rng = np.random.default_rng(4)
    cluster_contrasts(rng.standard_normal((60, 1)), 0, 4)
    assert cluster_contrasts(np.repeat(np.eye(3), 30, axis=0), 0, 4).k == 3


def test_contrasts_that_are_not_finite_raise() -> None:
    contrasts = np.ones((40, 4))
    contrasts[7, 2] = np.nan
    with pytest.raises(DataError, match="contrast 7 holds numbers that are not finite"):
        cluster_contrasts(contrasts, 0)
    with pytest.raises(DataError, match="must be a matrix"):
        cluster_contrasts(np.ones(4), 0)


# --- labels of single pivots

STEP = Operation("+", 8)


def demo_label(words: list[str]) -> str:
    return label_pivot("27 + 8 = 25 . ", words[0], " " + " ".join(words[1:]))


def test_the_demo_models_words() -> None:
    assert demo_label(correction(27, STEP)) == "self_correction"
    assert demo_label(alternative(27, STEP, 35)) == "exploration"
    assert demo_label(split(27, STEP)) == "depth_and_thoroughness"
    assert demo_label(check(27, STEP, 35, honest=True)[0]) == "numerical_accuracy"
    # A check that finds an error is a check: the pivot's own word decides.
    assert demo_label(check(27, STEP, 25, honest=True)[0]) == "numerical_accuracy"
    assert {demo_label([ordering_word(i, 4), ",", "27"]) for i in range(4)} == {"organization"}


@pytest.mark.parametrize(
    ("before", "token", "after", "label"),
    [
        ("So x = 4.", " Wait", ", that is not what was asked.", "self_correction"),
        ("So x = 4. Al", "tern", "atively, use a table.", "exploration"),
        ("We ", "check", "ered the floor.", "unlabelled"),  # a word inside a word is none
        ("He is ", "athirst", " today.", "unlabelled"),
        ("Let me ", "double", "-check this.", "numerical_accuracy"),
        ("That is it. Let", "’s", " try\nanother way. Good.", "exploration"),
        ("We get 12.", "\n\n", "Hold on, that was wrong.", "self_correction"),
        (
            "The sum",
            " is",
            " 12. Let me verify that. Wait, no.",
            "numerical_accuracy",
        ),  # two sentences, no more
        ("Wait, I was wrong. The", " sum", " is 12.", "unlabelled"),  # nor the one before
        ("The value is 3", ".", "5 wait", "self_correction"),  # no sentence ends inside a number
        ("It is", " 42", ".", "number"),
        ("1", "7", " = 17. Wait, wrong.", "number"),
        ("It is 12.", "</think>", " Wait", "think_tag"),
        ("It", " x2", " is.", "unlabelled"),
        ("", "", "", "unlabelled"),
    ],
)
def test_labels(before: str, token: str, after: str, label: str) -> None:
    assert label_pivot(before, token, after) == label


def test_as_much_for_two_patterns_is_unlabelled() -> None:
    lexicon = Lexicon({"doubt": ("hmm",), "plan": ("next",)})
    assert label_pivot("", "so", " hmm, next", lexicon) == "unlabelled"
    assert label_pivot("", "hmm", ", next", lexicon) == "doubt"


def test_no_word_of_the_default_lexicon_is_in_two_patterns() -> None:
    words = [word for name in DEFAULT_LEXICON.names for word in DEFAULT_LEXICON.patterns[name]]
    assert len(words) == len(set(words))


# --- a lexicon of one's own


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.yaml", "doubt: [hmm, 'not sure']\n"), ("l.json", '{\n\t"doubt": ["hmm", "not sure"]\n}')],
)
def test_a_lexicon_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    lexicon = read_lexicon(tmp_path / name)
    assert lexicon.patterns == {"doubt": ("hmm", "not sure")}
    assert label_pivot("I am ", "not", "  sure.", lexicon) == "doubt"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must map pattern names"),
        ("- a\n- b\n", "must map pattern names"),
        ("doubt: hmm\n", "doubt must be a list"),
        ("doubt: []\n", "doubt must be a list"),
        ("doubt: [no]\n", "False under doubt is not a word or phrase; put it in quotes"),
        ("doubt: ['?']\n", "is not a word or phrase"),
        ("number: [one]\n", "pattern name number is taken"),
        ("all: [one]\n", "pattern name all is taken"),
        ("my doubt: [hmm]\n", "must be letters, digits and underscores"),
        ("doubt: [hmm\n", "neither YAML nor JSON"),
    ],
)
def test_a_wrong_lexicon_raises_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "lexicon.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as raised:
        read_lexicon(path)
    assert "\n" not in str(raised.value)


def test_a_lexicon_that_is_not_there_or_not_text_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_lexicon(tmp_path / "none.yaml")
    (tmp_path / "l.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_lexicon(tmp_path / "l.json")


# --- names of clusters


def test_names_need_more_than_chance() -> None:
    clusters = np.repeat([0, 1, 2], [60, 50, 40])
    labels = ["doubt"] * 40 + ["unlabelled"] * 20  # a cluster of doubt
    labels += ["plan"] * 5 + ["unlabelled"] * 45  # some plans, too few to name it
    labels += ["doubt"] * 10 + ["plan"] * 2 + ["unlabelled"] * 28  # as much doubt as anywhere
    names = name_clusters(clusters, labels, ["doubt", "plan"])
    assert [name.pattern for name in names] == ["doubt", "unlabelled", "unlabelled"]
    assert names[0].p_value < 1e-6
    assert names[0].share == pytest.approx(2 / 3)


def test_random_labels_name_nothing() -> None:
    # 100 tables at a family-wise level of 1%: more than 4 with a name has a chance below 0.4%.
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(100):
        labels = rng.choice(["doubt", "plan", "unlabelled"], 200, p=[0.4, 0.3, 0.3]).tolist()
        names = name_clusters(rng.integers(0, 4, 200), labels, ["doubt", "plan"])
        named += any(name.pattern != "unlabelled" for name in names)
    assert named <= 4


def test_patterns_of_planted_pivots() -> None:
    contrasts, truth = planted(np.random.default_rng(7), 3, 240, 128, 1.0)
    words = np.array([" Wait", " First", " thus"])[truth]
    pivots = [Pivot("So. ", word, " we go on.") for word in words]
    pivots[3] = Pivot("= ", "17", " .")
    pivots[9] = Pivot("= 17 . ", "</think>", "")
    found = find_patterns(contrasts, pivots, seed=0)
    by_name = {group.name: set(group.members) for group in found.groups}
    assert by_name.pop("number") == {3}
    assert by_name.pop("think_tag") == {9}
    assert set(by_name) == {"self_correction", "organization", "unlabelled"}
    assert sorted(member for group in found.groups for member in group.members) == list(range(240))
    right = {i for i in range(240) if words[i] == " Wait"} - {3, 9}
    assert len(by_name["self_correction"] ^ right) <= 0.02 * len(right)
    assert found.labels[3] == "number"


def members(groups) -> dict[str, set[int]]:
    return {group.name: set(group.members) for group in groups}


def test_clusters_of_one_name_are_numbered_and_divide_the_pivots_unless_labels_are_asked_for() -> None:
    contrasts, truth = planted(np.random.default_rng(8), 3, 240, 128, 1.0)
    # The words name two clusters alike, and the number that the second would get is a pattern of its own.
    pivots = [Pivot("So. ", (" well", " hmm", " thus")[cluster], " we go on.") for cluster in truth]
    pivots[3], pivots[9] = Pivot("= ", "17", " ."), Pivot("= 17 . ", "</think>", "")
    found = find_patterns(contrasts, pivots, 0, Lexicon({"doubt": ("hmm", "well"), "doubt_2": ("thus",)}))
    basis, groups = pattern_groups(found)
    assert basis == "clusters"
    assert (basis, groups) == pattern_groups(found, "clusters")
    assert set(members(groups)) == {"doubt", "doubt_2", "doubt_3", "number", "think_tag"}
    assert sorted(member for group in groups for member in group.members) == list(range(240))
    basis, groups = pattern_groups(found, "labels")
    assert basis == "labels"
    assert members(groups) == {
        name: {place for place, label in enumerate(found.labels) if label == name}
        for name in ("doubt", "doubt_2", "number", "think_tag")
    }


def test_labels_where_there_is_no_structure() -> None:
    contrasts = np.random.default_rng(1).standard_normal((27, 64))
    pivots = [Pivot("So. ", word, " we go on.") for word in [" Wait", " First", " thus"] * 9]
    found = find_patterns(contrasts, pivots, seed=0)
    assert found.clusters is not None
    assert found.clusters.k == 1
    basis, groups = pattern_groups(found)
    assert (basis, set(members(groups))) == ("labels", {"self_correction", "organization", "unlabelled"})
    # Who asks for clusters gets the one that there is.
    assert [(group.name, len(group.members)) for group in pattern_groups(found, "clusters")[1]] == [
        ("unlabelled", 27)
    ]


def test_only_numbers_leave_nothing_to_cluster() -> None:
    found = find_patterns(np.ones((2, 4)), [Pivot("", "1", ""), Pivot("", "2", "")], seed=0)
    assert found.clusters is None
    assert [group.name for group in found.groups] == ["number"]
    assert [group.name for group in pattern_groups(found)[1]] == ["number"]


def test_a_pivot_for_each_contrast() -> None:
    with pytest.raises(DataError, match="3 contrasts for 1 pivots"):
        find_patterns(np.ones((3, 4)), [Pivot("", "a", "")], seed=0)


@pytest.mark.parametrize(
    ("p_value", "said"), [(0.0012, "more than one needs p ≤ 0.0001"), (1e-9, "no division repeats")]
)
def test_one_cluster_is_explained(p_value, said):
    assert said in source_sentence(PatternSource("labels", "auto", 1, p_value, 1.0, ()))
