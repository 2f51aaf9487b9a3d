"""What a server keeps for its clients: shared by content, dropped when no client wants it."""

import pytest

from pts.serving.kept import LEASE, Kept


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def dropped():
    return []


def put(kept, dropped, name, client):
    kept.put(name, client, lambda: (f"content of {name}", lambda: dropped.append(name)))


def test_clients_share_equal_contents_and_never_take_another_ones_away(clock, dropped):
    kept = Kept(clock)
    put(kept, dropped, "a", "one")
    put(kept, dropped, "a", "two")
    put(kept, dropped, "b", "two")
    kept.release("one")
    assert kept.get("a") == "content of a"
    assert (dropped, kept.hear("one"), kept.hear("two")) == ([], [], ["a", "b"])
    kept.release("two", ["a", "unknown"])
    assert (dropped, kept.get("a"), len(kept)) == (["a"], None, 1)


def test_what_a_killed_client_left_is_dropped_after_its_lease_unless_it_is_in_use(clock, dropped):
    kept = Kept(clock)
    for name, client in (("a", "killed"), ("b", "killed"), ("b", "alive"), ("c", "killed")):
        put(kept, dropped, name, client)
    clock.now = LEASE
    kept.expire([])
    assert len(kept) == 3
    kept.hear("alive")
    clock.now += 1
    kept.expire(["c"])
    assert (dropped, set(kept.names())) == (["a"], {"b", "c"})
    kept.expire([])
    assert (dropped, set(kept.names())) == (["a", "c"], {"b"})
