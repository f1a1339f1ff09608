"""What decides the bits of a kept measurement: contexts tell it apart, and the declared source agrees with what
measuring imports."""

import ast
from pathlib import Path

import torch
from torch import nn

from predictor.measuring.units import Subject
from predictor.measuring.validity import HOME, batch_digest, context_of, measuring_sources, source_digest
from predictor.scheme import AUTHORS, CURRENT, Scheme
from tests.imports import file_of, modules, reached
from tests.nets import net

NAMES = tuple(Path("formats", name) for name in ("names.py", "lookup.py", "pairs.py"))
"""From a name to a format: what the format is decides bits, not how it was asked for; its digest is part of a
measurement's key."""
REFUSALS = (Path("numeric_formats", "checks.py"), Path("workloads", "calls.py"))
"""What is refused is not measured."""
PLACES = (Path("numeric_formats", "folders.py"), Path("predictor", "columns.py"))
"""Where something is kept, and what a column or a scope is called, decides nothing."""


def kinds_of_formats() -> list[Path]:
    """Modules with a class of format: one that has `NumberFormat` among its ancestors."""
    classes = [
        (path, node)
        for path in modules()
        for node in ast.parse((HOME / path).read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    kinds, found = {"NumberFormat"}, dict[Path, None]()
    for _ in classes:
        for path, node in classes:
            if any(isinstance(base, ast.Name) and base.id in kinds for base in node.bases):
                kinds.add(node.name)
                found[path] = None
    return list(found)


def measuring() -> set[Path]:
    """What takes part in a measurement: all that measures a unit, observes noise, makes a key, and every kind of
    format."""
    names = (
        "predictor.measuring.units",
        "predictor.gradient.noise",
        "predictor.recipes.noise",
        "predictor.measuring.validity",
    )
    roots = [file_of(name) for name in names]
    return reached([*(path for path in roots if path is not None), *kinds_of_formats()], [*NAMES, *REFUSALS, *PLACES])


def declared() -> set[Path]:
    """The declared files that hold code: the __init__ of a folder may be one docstring."""
    return {path.relative_to(HOME) for path in measuring_sources() if len(ast.parse(path.read_text()).body) > 1}


def test_every_kind_of_format_is_found() -> None:
    assert len(kinds_of_formats()) >= 5


def test_every_module_that_takes_part_in_a_measurement_decides_its_key() -> None:
    assert measuring() - declared() == set()


def test_no_module_that_takes_no_part_makes_users_measure_again() -> None:
    assert declared() - measuring() == set()


def test_an_edit_measures_again_where_it_decides_bits_and_nowhere_else(monkeypatch):
    """Every module as if it had one more line."""
    read, before = Path.read_bytes, source_digest()

    def edited(edit):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda path: read(path) + (b"# more" if path == HOME / edit else b""))
            return source_digest()

    deciding = {path.relative_to(HOME) for path in measuring_sources()}
    others = set(modules()) - deciding
    assert len({edited(path) for path in deciding} | {before}) == len(deciding) + 1
    assert Path("predictor/measuring/store.py") in others
    assert {edited(path) for path in others} == {before}


def test_contexts_tell_apart_what_decides_bits():
    workload = net()
    base = context_of(Subject(workload))
    assert context_of(Subject(net())) == base
    seen = {base.digest}

    def other(context):
        assert context.digest not in seen
        seen.add(context.digest)

    other(context_of(Subject(workload, exact=["0"])))
    other(context_of(Subject(workload, scheme=Scheme(two_terms=False))))
    other(context_of(Subject(workload, scheme=CURRENT)))
    other(context_of(Subject(workload, scheme=AUTHORS)))
    other(context_of(Subject(workload), threads=base.threads + 1))
    other(context_of(Subject(net(seed=1))))
    changed = net()
    changed.model[1] = nn.GELU()  # no weights, another function
    other(context_of(Subject(changed)))
    changed.model[1] = nn.LeakyReLU(0.1)
    other(context_of(Subject(changed)))
    changed.model[1].negative_slope = 0.2
    other(context_of(Subject(changed)))
    changed = net()
    changed.model.to(memory_format=torch.channels_last)
    other(context_of(Subject(changed)))
    changed = net()
    changed.model[0].weight.requires_grad_(False)
    other(context_of(Subject(changed)))
    changed = net()
    changed.model[2].register_forward_hook(lambda module, args, output: output * 2)
    other(context_of(Subject(changed)))
    changed = net()
    changed.model.train()
    assert context_of(Subject(changed)) == base


def test_strides_of_a_minibatch_count():
    x = torch.randn(2, 3, 4, 5)
    assert batch_digest((x, 1)) == batch_digest((x.clone(), 1))
    assert batch_digest((x, 1)) != batch_digest((x.contiguous(memory_format=torch.channels_last), 1))
