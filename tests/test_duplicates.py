"""Exact duplicates and groups, against plain loops and a breadth-first search."""

from collections import deque
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from foldsmith.data.duplicates import find_originals, join_groups, join_pairs, name_groups, release_large

# few values, so that many are equal; "" means no key
WORDS = st.sampled_from(["", "a", "b", "c", "None", "nan", "0"])
# one to three keys for each of at least two samples
KEYS = st.integers(2, 25).flatmap(
    lambda count: st.lists(st.lists(WORDS, min_size=count, max_size=count), min_size=1, max_size=3)
)


def originals_by_loop(digests: list[str]) -> list[int | None]:
    return [
        next((earlier for earlier in range(index) if digests[earlier] == digest), None) if digest else None
        for index, digest in enumerate(digests)
    ]


def groups_by_search(*keys: list[str]) -> list[int]:
    """Return groups by breadth-first search from every sample that no earlier one reached."""
    group: dict[int, int] = {}
    for start in range(len(keys[0])):
        waiting = deque([start] if start not in group else [])
        while waiting:
            reached = waiting.popleft()
            if reached in group:
                continue
            group[reached] = start
            for key in keys:
                waiting.extend(other for other in range(len(key)) if key[other] == key[reached] != "")
    return [group[index] for index in range(len(keys[0]))]


def test_the_original_is_the_first_image_with_these_pixels() -> None:
    assert find_originals(["x", "y", "x", "", "x", "", "y"]) == [None, None, 0, None, 0, None, 1]
    assert find_originals([]) == []


@given(st.lists(WORDS))
def test_originals_are_those_a_plain_loop_finds(digests: list[str]) -> None:
    assert find_originals(digests) == originals_by_loop(digests)


def test_a_chain_over_two_keys_is_one_group() -> None:
    digests = ["x", "x", "y", "", "z", ""]
    patients = ["", "p", "p", "", "", ""]
    groups = join_groups(digests, patients)
    assert groups.dtype == np.int64
    assert groups.tolist() == [0, 0, 0, 3, 4, 5]


def test_without_any_key_every_sample_is_its_own_group() -> None:
    assert join_groups([""] * 5).tolist() == [0, 1, 2, 3, 4]


def test_one_sample_is_one_group() -> None:
    assert join_groups(["only"]).tolist() == [0]


@given(KEYS)
def test_groups_are_the_connected_components_named_by_their_first_sample(keys: list[list[str]]) -> None:
    assert join_groups(*keys).tolist() == groups_by_search(*keys)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=25), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_samples(
    samples: list[tuple[str, str]], shuffler: Random
) -> None:
    order = list(range(len(samples)))
    shuffler.shuffle(order)
    groups = join_groups(*zip(*samples, strict=True))
    shuffled = join_groups(*zip(*(samples[index] for index in order), strict=True))
    together = {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}
    again = {frozenset(order[row] for row in np.flatnonzero(shuffled == group)) for group in shuffled}
    assert again == together


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    # sample i shares one key with its left neighbour and the other key with its right one
    count = 20_000
    left = [str((index + 1) // 2) for index in range(count)]
    right = [str(index // 2) for index in range(count)]
    assert set(join_groups(left, right).tolist()) == {0}


@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=20))
def test_pairs_join_what_scipy_finds_connected(pairs: list[tuple[int, int]]) -> None:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(table)), (table[:, 0], table[:, 1])), shape=(15, 15))
    _, component = connected_components(graph, directed=False)
    first = [int(np.flatnonzero(component == own)[0]) for own in component]
    assert join_pairs(table, 15).tolist() == first


def test_a_group_is_named_by_its_first_image_unless_it_is_single_or_too_large() -> None:
    names = name_groups(np.array([0, 1, 0, 3, 3, 0]), list("abcdef"))
    assert names == ["a", "", "a", "d", "d", "a"]
    assert release_large(names, 2) == ["", "", "", "d", "d", ""]
    assert release_large([], 2) == []
