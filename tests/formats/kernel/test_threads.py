"""What each thread does: all elements, each once."""

import numpy as np
import pytest
from numba import int64

from formats.kernel import threads
from formats.kernel.threads import share, share_of_multiples, task, thread_count, thread_number
from formats.kernel.words import NUMBER, Words

WORDS = Words(elements=NUMBER, multiple=NUMBER, shares=int64[::1])


@task(WORDS)
def note_shares(w):
    at = 5 * thread_number()
    w.shares[at], w.shares[at + 1] = share(w.elements)
    w.shares[at + 2], w.shares[at + 3] = share_of_multiples(w.elements, w.multiple)
    w.shares[at + 4] = thread_count()


@pytest.mark.parametrize("wanted", [1, 2, 3, 7])
@pytest.mark.parametrize("elements", [1, 100, 3 << 15, 1000003])
def test_threads_share_all_that_is_to_do(monkeypatch, elements, wanted):
    monkeypatch.setattr(threads, "available", lambda: wanted)
    count = threads.threads_for(elements)
    assert count == max(1, min(wanted, elements // threads.MIN_ELEMENTS_PER_THREAD))
    shares = np.full((count, 5), -1)
    threads.run_on(note_shares, WORDS.pack(elements=elements, multiple=64, shares=shares), count)
    assert (shares[:, 4] == count).all()
    for first, last in (shares[:, :2].T, shares[:, 2:4].T):
        assert first[0] == 0
        assert last[-1] == elements
        assert (first[1:] == last[:-1]).all()
    assert not (shares[:, 2] % 64).any()


def test_a_forked_child_works_alone(monkeypatch):
    monkeypatch.setattr(threads, "_alone", True)
    assert threads.threads_for(1 << 30) == 1
