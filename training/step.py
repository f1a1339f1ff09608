"""What happens in one training step: `Trainer.step`, from a mini-batch to moved weights and scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from formats import Rounding
from predictor.device import device_of
from predictor.flow.dataflow import DataFlow
from predictor.flow.sites import site_from_plain
from predictor.gradient.evaluation import evaluation_mode
from predictor.gradient.gradients import measured_parameters
from training import checkpoint
from training.checking import check_weights_seen
from training.coverage import Covered
from training.delayed import RoundingCounts
from training.methods.method import Method, MethodState, NetworkInTraining, begin
from training.optimizers import OPTIMIZERS, add_weight, schedule_of
from training.recipe_steps import RecipeSteps, TrainedRecipe
from training.remedies import Remedies
from training.reproducible import random_state, set_random_state, undisturbed
from training.rounded_flow import RoundedFlow
from training.scheme import TensorFormats
from training.settings import TrainingSettings
from training.step_angles import StepAngles, angles_to, with_angles
from training.weights import Streams, Weight, masters_in_place, weights_of
from workloads.calls import call
from workloads.workload import Batch, Workload

METHOD = "method."
"""What the names of a method's parameters and tensors begin with."""


class StepResult(NamedTuple):
    """What a step gave.

    Attributes:
        loss: Before the step.
        angles: Where they were sampled.
        seen: What rounding did to each tensor.
        stopped: Why the step was not made; "" where it was.
    """

    loss: float
    angles: StepAngles | None
    seen: list[RoundingCounts]
    stopped: str


class Trainer:
    """A network in training, step by step. Use as a context manager around `step`.

    Args:
        workload: Its loss, and its test data and metric for `metric`.
        model: The network, whose parameters hold the rounded weights between steps.
        tensor_formats: The format of every tensor, and the scheme by which it is rounded.
        settings: All else of the run.
        steps: How many there will be, which the schedule of the learning rate needs.
        method: Quantizes layers in its own way, beside the scheme.
        batches: What the network is trained on, which a method or a recipe looks at.
        recipe: By which products are computed, without a method.

    Raises:
        ValueError: Where the network has nothing to train, and where the recipe changes nothing of it.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        tensor_formats: TensorFormats,
        settings: TrainingSettings,
        steps: int,
        method: Method | None = None,
        batches: Sequence[Batch] = (),
        recipe: TrainedRecipe | None = None,
    ):
        self.workload, self.settings, self.batches = workload, settings, batches
        self.tensor_formats = tensor_formats
        self.device = device_of(workload)
        self.streams = Streams(settings.seed)
        self.flow = DataFlow(model, () if recipe is None else recipe.exact)
        self.weights = weights_of(self.flow.model, tensor_formats, self.streams)
        if not self.weights:
            raise ValueError(f"workload {workload.name}: no parameter of the network requires a gradient")
        self.remedies = Remedies(settings, self.weights, steps)
        # Without a method, a state whose hooks do nothing.
        self.coverage: Covered | None = None
        self.method = MethodState() if method is None else self._begin(method)
        self._site = None if method is None else self.method.site
        self.recipe: RecipeSteps | None = None
        if recipe is not None:
            self.recipe = RecipeSteps(recipe, workload, batches[0], settings.seed)
        self.rounded = RoundedFlow(tensor_formats)
        self.flow.branches = tensor_formats.scheme.branches
        optimizer = OPTIMIZERS[settings.optimizer]
        self.optimizer = optimizer(self.weights, settings.rate, settings.momentum, settings.weight_decay)
        self.schedule = schedule_of(self.optimizer, settings.schedule, settings.warmup, steps)
        self._measured = measured_parameters(self.flow.model)
        self._trained = len(self.method.trained())
        self._late: list[str] = []

    def _begin(self, method: Method) -> MethodState:
        """The method's state, with its parameters, which depend on the first mini-batch, among the weights."""
        model, batch, settings = self.flow.model, self.batches[0], self.settings
        with undisturbed(model, self.device), self.flow:
            state, self.coverage = begin(
                method,
                self.flow,
                lambda: self.workload.loss_of(model, batch),
                epochs=settings.epochs,
                streams=self.streams,
                seed=settings.seed,
            )
        self.weights += [self._of_method(name, parameter) for name, parameter in state.trained().items()]
        for weight in self.weights:
            weight.group = state.group(weight.name.removeprefix(METHOD))
        return state

    def _of_method(self, name: str, parameter: nn.Parameter) -> Weight:
        return Weight(f"{METHOD}{name}", parameter, self.tensor_formats, self.streams)

    def _take_in(self, names: Iterable[str] | None = None) -> None:
        """Train what the method has made since, for layers that came for the first time; in the order of the names."""
        trained = self.method.trained()
        if len(trained) == self._trained:
            return
        known = {weight.name for weight in self.weights}
        for name in trained if names is None else names:
            if METHOD + name not in known:
                weight = self._of_method(name, trained[name])
                weight.group = self.method.group(name)
                self.weights.append(weight)
                self._late.append(name)
                add_weight(self.optimizer, self.schedule, weight, self.settings.rate, self.settings.weight_decay)
        self._trained = len(trained)

    def __enter__(self) -> Trainer:
        self.flow.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.flow.__exit__(*exception)

    def step(self, batch: Batch, sample_angle: bool = False) -> StepResult:
        """One step of training.

        Args:
            batch: The mini-batch.
            sample_angle: Whether the angles between the rounded and the full-precision gradients are found too, which
                takes a second pass. Flips of a method's codes are looked for then.
        """
        # The full-precision gradient sees the same random numbers as the rounded one, and leaves no trace.
        full = self._full_precision(batch) if sample_angle else ()

        # Forward and backward pass. Activations and errors are rounded at the points of the data flow, a method or a
        # recipe quantizes at its sites, and the weights are in their format already.
        self.method.decided.clear()
        self.method.begin_step()
        if self.recipe is not None:
            self.recipe.begin(batch)
        with self._rounding():
            loss, gradients = self._gradients(batch)
        if stopped := self._diverged(loss, gradients):
            return StepResult(loss, None, [], stopped)

        # Gradients of weights are rounded, and become those of the masters.
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.take_gradient(gradient, self.rounded.places.get("G"))
        angles = angles_to(full, self.weights, self._measured) if full else None
        codes = self._codes() if sample_angle else {}

        # The optimizer moves the master weights, and rounds them and their momentum. Dampening pulls them toward their
        # rounded values; frozen ones stay.
        step = self.schedule.last_epoch
        self.method.before_update({group["name"]: group for group in self.optimizer.param_groups if group["name"]})
        self.remedies.before_update(step)
        self.optimizer.step()
        self.schedule.step()
        self.remedies.after_update()
        self.method.end_step()
        if self.recipe is not None:
            self.recipe.end()

        # The network's weights are rounded from the masters, by hysteresis from what they were.
        seen = [entry for weight in self.weights if (entry := weight.requantize()) is not None]
        self.remedies.after_rounding(step)
        seen += self._flips_of(codes)
        if angles is not None:
            seen = with_angles(seen, angles, self.weights)

        # The scales of activations, errors and gradients follow what was seen of them.
        seen += self.rounded.advance()
        return StepResult(loss, angles, seen, "")

    # The parts of a step, in its order.

    def _full_precision(self, batch: Batch) -> Sequence[Tensor | None]:
        """The gradients at the master weights without any rounding; the network and the random numbers are as before
        afterwards."""
        with undisturbed(self.flow.model, self.device), masters_in_place(self.weights):
            return self._gradients(batch)[1]

    def _gradients(self, batch: Batch) -> tuple[float, Sequence[Tensor | None]]:
        """Loss and gradients of all weights; no gradients where the loss is not a finite number."""
        loss = self.workload.loss_of(self.flow.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ValueError(
                f"the loss of workload {self.workload.name} is no tensor of one element that depends on the network"
            )
        if self.tensor_formats.weight is not None:
            check_weights_seen(self.flow.computed.values())
        value = loss.item()
        self._take_in()
        penalty = self.method.penalty() if self.method.training else None
        loss = loss if penalty is None else loss + penalty
        if not math.isfinite(value):
            return value, ()
        what = f"the gradient of workload {self.workload.name}"
        if self.recipe is not None:
            self.recipe.go_back()
        parameters = [weight.parameter for weight in self.weights]
        return value, call(what, self.flow.model, self.flow.gradients, loss, parameters)

    @contextmanager
    def _rounding(self, evaluation: bool = False) -> Iterator[None]:
        """The points round and the method's sites quantize inside; for evaluation without a trace, and also where no
        gradient is recorded."""
        flow, method, recipe = self.flow, self.method, self.recipe
        flow.activation, flow.error = (self.rounded.quantizers if recipe is None else recipe.between)(evaluation)
        flow.evaluation = evaluation
        flow.pointed = flow.activation is not None or flow.error is not None
        flow.site, method.training = self._site if recipe is None else recipe.sites, not evaluation
        try:
            yield
        finally:
            flow.activation, flow.error, flow.evaluation, flow.pointed = None, None, False, True
            flow.site, method.training = None, False

    def _diverged(self, loss: float, gradients: Sequence[Tensor | None]) -> str:
        """Why no step can be made; "" where it can."""
        bound = self.settings.loss_bound
        if math.isnan(loss):
            return "the loss is nan"
        if math.isinf(loss) or loss > bound:
            return f"the loss is {loss:.6g}, above {bound:g}"
        for weight, gradient in zip(self.weights, gradients, strict=True):
            if gradient is not None and not gradient.isfinite().all():
                return f"the gradient of {weight.name} is not finite"
        return ""

    def _codes(self) -> dict[str, Tensor]:
        """The codes of the weights that the method quantizes, by parameter; none where it has no codes."""
        try:
            return {entry.parameter: entry.codes for entry in self.method.exported()}
        except ValueError:  # as an export would say
            return {}

    def _flips_of(self, codes: dict[str, Tensor]) -> list[RoundingCounts]:
        """How many of a method's codes are others by now."""
        now = self._codes() if codes else {}
        return [
            RoundingCounts("W", name, 0, before.numel(), None, None, None, 0, int((now[name] != before).sum()))
            for name, before in codes.items()
        ]

    # Between steps.

    def settle(self, batch: Batch) -> None:
        """A forward and a backward pass in which delayed scales settle, without a step; nothing else moves."""
        method = self.method
        with undisturbed(self.flow.model, self.device), self._rounding():
            method.decided.clear()
            method.calibrating = True
            gradients = self._gradients(batch)[1]
            method.calibrating = False
        for weight, gradient in zip(self.weights, gradients, strict=False):  # none where the loss is not finite
            weight.take_gradient(gradient, self.rounded.places.get("G"))
        self.rounded.advance()

    def begin_epoch(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 1, or before the first after a resume."""
        last = self.settings.hysteresis_epochs
        for weight in self.weights:
            weight.rounding = self.tensor_formats.weight_rounding if last is None or epoch <= last else Rounding.NEAREST
        self.method.begin_epoch(epoch)

    def end_epoch(self, epoch: int) -> None:
        """After the last step of an epoch."""
        self.flow.site = self._site
        self.method.end_epoch(epoch, NetworkInTraining(self.flow.model, self._pass_over))
        self.flow.site = None

    def _pass_over(self) -> None:
        for batch in self.batches:
            self.workload.loss_of(self.flow.model, batch)

    def metric(self) -> float | None:
        """Mean metric over the workload's test mini-batches, weights and activations rounded; None where it has none.
        Moves no scale."""
        workload = self.workload
        if workload.test is None or workload.metric is None:
            return None
        test = replace(workload, batches=workload.test).minibatches(
            self.settings.batch_size if callable(workload.test) else None
        )
        if self.recipe is not None:
            self.recipe.evaluate()
        with evaluation_mode(self.flow.model), self._rounding(evaluation=True):
            found = float(np.mean([workload.metric_of(self.flow.model, batch) for batch in test]))
        self._take_in()
        return found

    # Checkpoints.

    def _network(self) -> dict[str, Tensor]:
        model = self.flow.model
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def _masters(self) -> dict[str, Tensor]:
        return {weight.name: weight.master for weight in self.weights}

    def _tracked(self) -> dict[str, Tensor]:
        return {f"{kind}.{weight.name}": kept for weight in self.weights for kind, kept in weight.tracked().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the run's state."""
        return {
            **{f"network.{name}": tensor for name, tensor in self._network().items()},
            **{f"master.{name}": tensor for name, tensor in self._masters().items()},
            **self._tracked(),
            **checkpoint.optimizer_tensors(self.optimizer),
            **{METHOD + name: tensor for name, tensor in self.method.tensors().items()},
            **random_state(self.device),
        }

    def state(self) -> dict[str, Any]:
        """The rest of it, as plain values."""
        return {
            "groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
            "stream": self.streams.next,
            "tops": self.rounded.tops,
            "method": self.method.state(),
            "recipe": None if self.recipe is None else self.recipe.state(),
            "late": {"sites": [asdict(site) for site in self.method.late], "parameters": self._late},
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any], path: Path) -> None:
        """Go on from what `tensors` and `state` gave. path: of the checkpoint, for errors."""
        checkpoint.fill(self._network(), tensors, "network.", path)
        self._meet_again(tensors, state["late"])
        checkpoint.fill(self._masters(), tensors, "master.", path)
        checkpoint.fill(self._tracked(), tensors, "", path)
        for weight in self.weights:
            weight.take_up()
        own = self.state()
        for name in ("schedule", "stream"):
            checkpoint.check_kind(path, name, own[name], state[name])
        for name in ("tops", "method"):
            checkpoint.check_kind(path, name, dict.fromkeys(own[name]), dict.fromkeys(state[name]))
        for entry in (entry for tops in state["tops"].values() for entry in tops):
            checkpoint.check_kind(path, "an entry of tops", ["place", 0, 0], entry)
        checkpoint.restore_optimizer(self.optimizer, tensors, state["groups"], path)
        self.schedule.load_state_dict(state["schedule"])
        self.streams.next = state["stream"]
        self.rounded.tops = state["tops"]
        if self.recipe is not None:
            self.recipe.restore(state["recipe"], path)
        of_method = {name.removeprefix(METHOD): tensor for name, tensor in tensors.items() if name.startswith(METHOD)}
        self.method.restore(of_method, state["method"])
        set_random_state(tensors, self.device)

    def _meet_again(self, tensors: dict[str, Tensor], late: dict[str, Any]) -> None:
        """Layers that a method met after the start, and their parameters, in the order in which they came."""
        own = {name: tensors[f"master.{METHOD}{name}"] for name in late["parameters"]}
        self.method.remake([site_from_plain(site) for site in late["sites"]], own)
        self._take_in(own)
