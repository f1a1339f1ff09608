"""What results say of how they were made: the keys of a sidecar, which old files have too."""

import json
from dataclasses import asdict, fields

import pytest

import formats
from predictor.effects import Effect
from predictor.risk import bundled_trainings, risk_of
from predictor.scheme import PAPER, Scheme
from search import rank, search
from search.across import rank_across
from search.layers import search_layers
from tests.nets import net

FIRST = ["workload", "weights", "device", "data", "scheme", "points"]
SCHEME = [field.name for field in fields(Scheme)]


@pytest.fixture(scope="module")
def workload():
    return net()


def as_written(settings):
    """As a sidecar gives them back."""
    return json.loads(json.dumps(settings.as_dict(), indent=1))


def test_of_a_ranking(workload):
    ranking = rank(workload, formats.catalogue(8)[:30], effects=["AE", "E"], minibatches=2, exact=["0"])
    kept = as_written(ranking.settings)
    assert list(kept) == [
        *(*FIRST, "effects", "by", "minibatches", "batch_size", "exhaustive", "time_budget", "exact"),
        *("candidates", "measured", "gradients", "exhaustive_gradients", "regret_at_most", "left_the_race"),
        *("surrogate", "failures", "complete", "seconds", "formats", "coverage", "gap"),
        *(
            "stage",
            "policy",
            "beyond",
            "left",
            "unspent",
            "parts",
            "needed",
            "available",
            "notes",
            "yardsticks",
            "weights_alone",
            "products",
            *SCHEME,
        ),
    ]
    assert kept["gap"] == risk_of(bundled_trainings(), Effect.AE).sentence
    assert [kept[key] for key in ("scheme", *SCHEME)] == ["paper", *asdict(PAPER).values()]
    assert (kept["effects"], kept["by"], kept["exact"]) == (["E", "AE"], "AE", ["0"])
    assert list(kept["surrogate"]) == ["E", "AE"]
    assert set(kept["surrogate"]["E"]) == {"held_out", "widened"}
    assert kept["formats"] == {entry.name: entry.digest for entry in formats.catalogue(8)[:30]}


def test_of_a_search(workload):
    kept = as_written(search(workload, effects=["E"], best=1, minibatches=1).settings)
    assert list(kept) == [
        *(*FIRST, "bits", "effects", "by", "constraints", "best", "passes", "held_out", "reference", "minibatches"),
        *("batch_size", "exact", "candidates", "gradients", "failures", "complete", "seconds", "formats", *SCHEME),
    ]
    constraints = {"binades": None, "shape": "any", "precisions": None, "runs": None, "headrooms": None}
    assert kept["constraints"] == constraints
    _, settings = search_layers(workload, 6.5, widths=(6, 8), effect="A")
    kept = as_written(settings)
    assert list(kept) == [
        *(*FIRST, "effect", "average_bits", "widths", "constraints", "passes", "batch_size", "exact", *SCHEME),
    ]
    assert (kept["effect"], kept["widths"], kept["constraints"]) == ("A", [6, 8], constraints)


def test_over_networks(workload):
    found = rank_across({"one": workload, "two": net(1)}, ["FP134", "INT8"], effects=["E"], minibatches=1)
    kept = as_written(found.settings)
    assert list(kept) == ["by", "effect", "complete", "formats", "models"]
    assert (kept["by"], kept["effect"]) == ("worst", "E")
    assert list(kept["models"]) == ["one", "two"]
    alone = as_written(found.rankings["two"].settings)
    del alone["formats"]  # written once for all networks
    assert kept["models"]["two"] == alone
