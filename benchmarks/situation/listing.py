"""A situation that people have met: what is expected, computed apart from us, and what was found."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from predictor.gradient.gradients import Gradients
from predictor.listing import list_points
from predictor.measuring.self_check import check
from workloads import Workload

RIGHT, REFUSED, LISTED, WRONG = "right", "refused by name", "listed", "WRONG"
FORMATS = Path(sys.executable).with_name("formats")


@dataclass(frozen=True)
class Outcome:
    """expected and found, as text, and the verdict."""

    expected: str
    found: str
    verdict: str


Check = Callable[[Path], Outcome]
SITUATIONS: dict[str, Check] = {}


def situation(name: str) -> Callable[[Check], Check]:
    """Put a check on the list; it is given an empty folder."""

    def put(check: Check) -> Check:
        assert name not in SITUATIONS
        SITUATIONS[name] = check
        return check

    return put


def run(name: str, folder: Path) -> Outcome:
    """One of them; an error that is no refusal of one line is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return SITUATIONS[name](folder)
        except Exception as error:
            return Outcome("no traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", WRONG)


def compared(expected: object, found: object, right: bool) -> Outcome:
    return Outcome(str(expected), str(found), RIGHT if right else WRONG)


def refusal(do: Callable[[], object], words: str) -> Outcome:
    """It is to be refused in one line that matches these words."""
    try:
        found = do()
    except (ValueError, TypeError, OSError) as error:
        return refused(error, words)
    return Outcome(f"a line with {words!r}", str(found)[:160], WRONG)


def refused(error: Exception, words: str) -> Outcome:
    """What was said is one line that matches these words."""
    text = str(error)
    right = "\n" not in text and re.search(words, text) is not None
    return Outcome(f"a line with {words!r}", text[:200], REFUSED if right else WRONG)


def right_or_refused(do: Callable[[], Outcome], words: str) -> Outcome:
    """Right, or refused in one line that matches these words."""
    try:
        return do()
    except (ValueError, TypeError) as error:
        return refused(error, words)


def command(folder: Path, *arguments: str, words: str, seconds: float = 300) -> Outcome:
    """The command line is to end with exit code 2 and one line that matches these words."""
    environment = {**os.environ, "FORMATS_CACHE": str(folder / "cache"), "TERM": "dumb"}
    done = subprocess.run(
        [FORMATS, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error:", "internal error:", "Traceback"))]
    right = done.returncode == 2 and len(lines) == 1 and re.search(words, lines[0]) is not None
    found = f"exit code {done.returncode}: {' / '.join(lines)[:200]}"
    return Outcome(f"exit code 2, one line with {words!r}", found, REFUSED if right else WRONG)


def square(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


def by_torch(model: nn.Module, batch: object, loss: Callable[..., Tensor] = square) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients by torch alone, on a copy in evaluation mode."""
    own = copy.deepcopy(model).eval()
    torch.manual_seed(0)
    value = loss(own, batch)
    value.backward()
    return value.item(), {name: p.grad for name, p in own.named_parameters() if p.grad is not None}


def same_gradient(model: nn.Module, batch: object, loss: Callable[..., Tensor] = square) -> Outcome:
    """The flow's full-precision loss and gradients are those of torch alone."""
    value, own = by_torch(model, batch, loss)
    with Gradients(Workload("situation", model, [batch], loss), batch, watched=True) as gradients:
        check(gradients)
        found = dict(zip(gradients.names, gradients.full, strict=True))
        theirs = gradients.loss.item()
    norm = lambda entries: sum(float(g.double().square().sum()) for g in entries) ** 0.5  # noqa: E731
    expected = [own[name] if not own[name].is_complex() else torch.view_as_real(own[name]) for name in found]
    apart = norm([g - f for g, f in zip(expected, found.values(), strict=True)]) / norm(expected)
    right = apart < 1e-4 and abs(theirs - value) < 1e-4 * max(1.0, abs(value))
    return compared(
        f"loss {value:.6g}, gradient of norm {norm(expected):.6g}",
        f"loss {theirs:.6g}, norm {norm(found.values()):.6g}, apart {apart:.1e}",
        right,
    )


def listed(model: nn.Module, batch: object, operations: set[str], loss: Callable[..., Tensor] = square) -> Outcome:
    """These operations have a point, or stand under "no point"."""
    points, skipped, _ = list_points(Workload("situation", model, [batch], loss))
    found = {row[2].split(" #")[0] for row in points} | {row[1] for row in skipped}
    missing = operations - found
    outcome = f"{len(points)} points, {len(skipped)} without: {', '.join(sorted(found))}"
    return Outcome(f"accounted for: {', '.join(sorted(operations))}", outcome, WRONG if missing else LISTED)


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])
