"""Tensors are found and mapped in whatever a network is given or gives back."""

import collections
import dataclasses
import types
from collections import deque

import pytest
import torch
from transformers.modeling_outputs import CausalLMOutput

from workloads.containers import map_tensors, tensors_in


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A data class that may not be changed."""

    x: object
    name: str = "kept"


class Ordered(collections.OrderedDict):
    """A mapping of one's own."""


class Numbered(list):
    """A list of one's own."""


Pair = collections.namedtuple("Pair", "a b")
ONES = torch.ones(2)
HELD = [
    (ONES, [1]),
    [ONES, {"inner": ONES}],
    Pair(ONES, "text"),
    {"x": ONES, "y": None},
    collections.OrderedDict(x=ONES),
    Ordered(x=ONES),
    collections.UserDict(x=ONES),
    collections.defaultdict(list, x=[ONES]),
    types.MappingProxyType({"x": ONES}),
    types.SimpleNamespace(x=ONES, n=1),
    Frozen(Frozen([ONES])),
    Numbered([ONES]),
    CausalLMOutput(logits=ONES, hidden_states=(ONES, ONES)),
]


@pytest.mark.parametrize("held", HELD, ids=lambda held: type(held).__name__)
def test_every_tensor_is_found_and_mapped(held):
    before = list(tensors_in(held))
    assert before
    mapped = map_tensors(lambda t: 2 * t, held)
    assert type(mapped) is type(held)
    assert [t.tolist() for t in tensors_in(mapped)] == [[2.0, 2.0]] * len(before)
    assert [t.tolist() for t in tensors_in(held)] == [[1.0, 1.0]] * len(before)  # what was given stays


def test_what_holds_no_tensor_is_itself():
    for value in (3, "text", None, [1, 2], {"a": 1}, torch.Size([2, 3]), Frozen(1)):
        assert map_tensors(lambda t: 2 * t, value) is value


def test_what_a_container_has_beside_its_entries_stays():
    found = map_tensors(lambda t: 2 * t, collections.defaultdict(list, x=ONES))
    assert found.default_factory is list
    assert map_tensors(lambda t: 2 * t, Frozen(ONES)).name == "kept"


def test_a_mapping_that_cannot_be_changed_is_refused_by_name():
    class Fixed(collections.abc.Mapping):
        def __getitem__(self, key):
            return ONES

        def __iter__(self):
            return iter(["x"])

        def __len__(self):
            return 1

    with pytest.raises(TypeError, match="a Fixed holds tensors and cannot be changed; give a dict"):
        map_tensors(lambda t: 2 * t, Fixed())


def test_a_deque_holds_tensors_and_its_length():
    given = deque([torch.ones(1), "text", {"a": torch.zeros(1)}], maxlen=5)
    made = map_tensors(lambda t: t + 1, given)
    assert (type(made), made.maxlen, made[1]) == (deque, 5, "text")
    assert [t.item() for t in tensors_in(made)] == [2, 1]
    assert [t.item() for t in tensors_in(given)] == [1, 0]
