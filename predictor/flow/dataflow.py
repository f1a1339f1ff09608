"""Where data flow is quantized: points on the outputs of a network's operations (docs/definitions/prediction.md section
1).

A point sees every activation in the forward pass and every error in the backward pass of one operation's output. It
works on any torch.nn.Module as it is: torch's function mode shows each call that the network makes, in modules,
functions and operators alike.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from predictor.flow import decompositions
from predictor.flow.calls import carry_out, dense, eagerly, run_backward
from predictor.flow.checkpointing import Place, checkpoints_find_their_points
from predictor.flow.coverage import Watch
from predictor.flow.float32 import call_in_float32
from predictor.flow.forks import round_branches
from predictor.flow.layers import layers_followed, unwrapped
from predictor.flow.memory import shape_of
from predictor.flow.operands import OPERATIONS, operands_of
from predictor.flow.operations import COMPUTES, LEAVES, deciding, is_cut, name_of, reason_for_no_point
from predictor.flow.origins import Made, Origins
from predictor.flow.passes import Pass
from predictor.flow.points import Point, Quantizer, Rounded, Skipped, mark_last
from predictor.flow.sites import Quantizers, Site, compute
from workloads.containers import map_tensors, tensors_in


class _Mode(TorchFunctionMode):
    def __init__(self, flow: DataFlow):
        super().__init__()
        self.flow = flow

    def __exit__(self, *exception: object) -> None:
        # Ctrl-C can come after torch has taken the mode off and before anybody knows of it: leaving twice is right.
        while self in _get_current_function_mode_stack():
            super().__exit__(*exception)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.flow.called(func, args, kwargs or {})


class DataFlow:
    """The points of one network. Use as a context manager, call the network inside, and get gradients inside.

    The attributes may be changed between passes; several backward passes over one retained graph may each use another
    `error`. Where a point stands on a site's product, it comes after. Products inside attention and recurrent layers
    are sites too; those with the state, one for each time step, are one site.

    Args:
        model: the network.
        exact: names of layers (with all inside them) that stay in full precision.

    Attributes:
        activation: the quantizer of the forward pass; None is full precision.
        error: the quantizer of the backward pass; None is full precision.
        branches: whether errors that meet at a fork are rounded each by itself, and their sum is not.
        site: asked at every call that can be a site, outside exact layers, with gradients and without; the product is
            computed with the quantizers that it returns, by torch alone where that is None.
        evaluation: where a pass is made without gradients, as metrics are, whether it has points all the same.
        pointed: False where no operation is to get a point, so that sites cost no copies of what lies between them.
        points: what the last forward pass found.
        skipped: operations without a point in the last forward pass.
        parameters: the network's parameters in the order of their first use.
        computed: products of the last forward pass whose weight is computed from parameters on the way, by name.
        watch: sees the forward passes below torch's functions, where it is set before them.
        saw_input: whether the last pass was given a tensor.
        gave: the name of the type of what it gave; gave_tensor: whether a tensor is found in it; gave_output: whether
            one depends on a tensor that the network was given.

    Raises:
        ValueError: there is no layer of a name in `exact`, or part of the network is TorchScript.
    """

    def __init__(self, model: nn.Module, exact: Iterable[str] = ()):
        self.model = unwrapped(model)
        self.exact = frozenset(exact)
        names = {name for name, _ in self.model.named_modules()}
        for name in self.exact - names:
            raise ValueError(
                f"there is no layer {name!r} to keep exact; layers are {', '.join(sorted(names - {''})[:8])}, ..."
            )
        self.activation: Quantizer | None = None
        self.error: Quantizer | None = None
        self.branches, self.evaluation, self.pointed = False, False, True
        self.site: Callable[[Site], Quantizers | None] | None = None
        self.points: list[Point] = []
        self.skipped: list[Skipped] = []
        self.parameters: list[nn.Parameter] = []
        self.computed: dict[str, Site] = {}
        self.watch: Watch | None = None
        self.saw_input = False
        self.gave, self.gave_tensor, self.gave_output = "", False, False
        self._differentiated = False
        self._mode = _Mode(self)
        self._inside, self._thread = 0, 0
        self._elsewhere: Counter[int] = Counter()  # calls in other threads meanwhile, by thread
        self._recording = ExitStack()
        self._warned: set[str] = set()
        self._pass = Pass(Origins(self.model), 0)
        self._opened = ExitStack()

    def __deepcopy__(self, _: Any) -> DataFlow:
        """A network that copies a part of itself copies the hooks with it, whose flow is this one."""
        return self

    def __enter__(self) -> DataFlow:
        with ExitStack() as opened:
            opened.callback(self._leave)
            opened.enter_context(layers_followed(self.model, self._enter_layer, self._leave_layer))
            opened.callback(self.model.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
            opened.callback(self.model.register_forward_hook(self._end, always_call=True).remove)
            opened.enter_context(checkpoints_find_their_points(self._take_place))
            opened.enter_context(eagerly())
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def _leave(self) -> None:
        self._inside = 0
        self._mode.__exit__(None, None, None)
        self._recording.close()

    def gradients(self, loss: Tensor, parameters: Sequence[Tensor], keep: bool = False) -> tuple[Tensor | None, ...]:
        """d loss / d parameters, None where it does not depend on one; `keep` retains the graph for another pass.

        Activations that are computed again on the way (checkpointing) are quantized again.
        """
        kept = self.points, self.skipped, self.parameters
        self.points, self.skipped, self.parameters = [], [], list(kept[2])
        self._pass.know_inputs_by_memory()
        try:
            with self._mode:
                found = run_backward(loss, parameters, keep)
            return tuple(dense(g) for g in found)
        finally:
            self.points, self.skipped, self.parameters = kept
            self._pass.input_memory = set()

    def _take_place(self) -> Place:
        """Where calls are counted from now on, and in which pass, to come back to in the backward pass."""
        taken = self._pass.place()

        @contextmanager
        def there() -> Iterator[None]:
            before, self._pass = self._pass, taken.place()
            self._pass.know_inputs_by_memory()
            try:
                yield
            finally:
                self._pass = before

        return there

    # The forward pass.

    def _enter_layer(self, name: str) -> None:
        if self._is_seen:
            self._pass.layers.append(name)

    def _leave_layer(self, name: str, output: Any) -> None:
        if self._is_seen:
            self._pass.layers.pop()
        elif self.watch is not None:
            self.watch.arrivals.called(name, output)

    @property
    def _is_seen(self) -> bool:
        """Whether the mode sees what is called here: it belongs to one thread, and to the network's own call."""
        return self._mode in _get_current_function_mode_stack()

    @property
    def _runs_in_another_thread(self) -> bool:
        return self._inside > 0 and self._thread != get_ident()

    def _begin(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        if self._runs_in_another_thread or get_ident() in self._elsewhere:
            self._elsewhere[get_ident()] += 1
            return args, kwargs
        if self._inside:  # the network calls itself
            self._inside += 1
            return args, kwargs
        self._inside, self._thread = 1, get_ident()
        if self.evaluation:
            # Which operations get a point shows in what needs a gradient.
            self._recording.enter_context(torch.inference_mode(False))
            self._recording.enter_context(torch.enable_grad())
        self.points, self.skipped, self.parameters, self.computed = [], [], [], {}
        self._pass = self._pass.following()
        self.saw_input = any(True for _ in tensors_in((args, kwargs)))
        # Whoever lets an input require a gradient takes derivatives by it: forces, gradient penalties.
        self._differentiated = any(t.requires_grad for t in tensors_in((args, kwargs)))
        args, kwargs = map_tensors(self._input, args), map_tensors(self._input, kwargs)
        if self.watch is not None:
            self.watch.begin((args, kwargs))
            self.watch.arrivals.know((*self.model.parameters(), *self.model.buffers()))
            self._recording.enter_context(self.watch)
        self._mode.__enter__()
        return args, kwargs

    def _end(self, _: nn.Module, args: Any, output: Any) -> Any:
        if get_ident() in self._elsewhere:  # also where the call that was seen has ended before this one
            self._elsewhere[get_ident()] -= 1
            if not self._elsewhere[get_ident()]:
                del self._elsewhere[get_ident()]
            if self.watch is not None:
                self.watch.arrivals.called("", output)
            return output
        self._inside -= 1
        if not self._inside:
            self._leave()
            if self.watch is not None:
                self.watch.end(output)
            self.gave, self.gave_tensor = type(output).__name__, any(True for _ in tensors_in(output))
            self.gave_output = any(self._pass.depends_on_input([t]) for t in tensors_in(output))
            if self.branches and not self.evaluation:
                return round_branches(output, self)
            mark_last(tensors_in(output))
            if self.evaluation and not self._differentiated:
                return map_tensors(Tensor.detach, output)
        return output

    def _input(self, x: Tensor) -> Tensor:
        if x.is_floating_point() and self.pointed:
            point = self._new_point("input", x)
            point.two_terms = True
            x = Rounded.apply(x, self, point)
        self._pass.from_input[x] = True
        return x

    @property
    def passes(self) -> int:
        """Forward passes so far."""
        return self._pass.number

    @property
    def layer(self) -> str:
        """The module that is being carried out, "" for the network itself."""
        return self._pass.layer

    def is_exact(self, layer: str) -> bool:
        """Whether a layer stays in full precision, by itself or inside another."""
        return any(layer == name or layer.startswith(f"{name}.") for name in self.exact)

    def _new_point(self, operation: str, output: Tensor) -> Point:
        layer, call = self.layer, self._pass.count(operation)
        point = Point(len(self.points), layer, operation, call, shape_of(output), self.is_exact(layer))
        self.points.append(point)
        return point

    def point(self, output: Tensor, operation: str) -> Tensor:
        """The quantized output of an operation; what decompositions call."""
        if not (self.pointed and torch.is_grad_enabled()):
            return output
        return Rounded.apply(output, self, self._new_point(operation, output))

    def product(
        self, function: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, once: bool = False
    ) -> Tensor:
        """A product with its point; what decompositions call. once: all calls with this weight in one layer are one
        site."""
        args = (x, weight) if function is torch.matmul else (x, weight, bias)
        name = function.__name__
        result = self._at_site(function, args, {}, once) if self._has_sites else carry_out(function, args, {})
        return self.point(result, name)

    # Calls of torch's functions inside the network.

    def called(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Carry out one call, with a point on its result where it gets one."""
        return call_in_float32(function, args, kwargs, self._called)

    def _called(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self.watch is None:
            return self._carry_out(function, args, kwargs)
        known = len(self.points), len(self.skipped)
        self.watch.enter_call((args, kwargs))
        try:
            result = self._carry_out(function, args, kwargs)
            self.watch.arrivals.leave(tensors_in((args, kwargs, result)))
            return result
        finally:
            points = self.points[known[0] :]
            listed = bool(points) or len(self.skipped) > known[1]
            self.watch.leave_call(listed, any(not point.exact for point in points))

    def _carry_out(self, function: Any, args: Any, kwargs: Any) -> Any:
        inputs = [*tensors_in(args), *tensors_in(kwargs)]
        for parameter in inputs:
            if isinstance(parameter, nn.Parameter) and not any(parameter is known for known in self.parameters):
                self.parameters.append(parameter)
        name, in_place = name_of(function)
        depends = self._pass.depends_on_input(deciding(name, args, inputs))
        in_parts = depends and (torch.is_grad_enabled() or self.site is not None)
        decomposition = decompositions.TABLE.get(name) if in_parts else None
        if decomposition is not None:
            return self._marked(decomposition(self, *args, **kwargs), None)
        made = None if depends else self._pass.origins.of_call(name, inputs)
        pointed = depends and self.pointed and torch.is_grad_enabled()
        # Looks at values, which tensors do not have while a network is exported.
        reason = reason_for_no_point(name, args) if pointed else None
        frozen = pointed and self._is_frozen(function, inputs)
        if in_place and pointed and reason is None:
            return self._in_place(function, name, args, kwargs, frozen)
        at_site = self._has_sites and depends and name in OPERATIONS
        result = (self._at_site if at_site else carry_out)(function, args, kwargs)
        outputs = [t for t in tensors_in(result) if self._can_be_pointed(t, frozen)] if pointed else []
        if outputs:
            if reason is None:
                self._warn_if_unknown(name)
                result = map_tensors(lambda t: self.point(t, name) if self._can_be_pointed(t, frozen) else t, result)
            elif name not in ("get", "set", "requires_grad"):
                self.skipped.append(Skipped(self.layer, name, shape_of(outputs[0]), reason))
        elif depends and name in LEAVES and self.watch is not None:
            self.watch.arrivals.taken(name, inputs[0])
        if frozen:
            self._pass.learned.update((t, True) for t in tensors_in(result))
        if in_place and isinstance(args[0], Tensor):
            self._marked(args[0], made)
        return self._marked(result, made)

    def _is_frozen(self, function: Any, inputs: list[Tensor]) -> bool:
        """Whether a result needs no gradient only because the parameters that made it are frozen."""
        if any(t.requires_grad for t in inputs) or is_cut(function):
            return False
        return any(isinstance(t, nn.Parameter) or t in self._pass.learned for t in inputs)

    @staticmethod
    def _can_be_pointed(t: Tensor, frozen: bool) -> bool:
        return t.is_floating_point() and (frozen if not t.requires_grad else t.grad_fn is not None)

    @property
    def _has_sites(self) -> bool:
        return self.site is not None or self._pass.origins.computed

    def _at_site(self, function: Any, args: Any, kwargs: Any, once: bool = False) -> Any:
        """One call, with the quantizers of its site if it gets any. once: the same site as of earlier calls with the
        weight."""
        name, in_place = name_of(function)
        if in_place:
            return args[0].copy_(self._at_site(getattr(torch, name), args, kwargs))
        operands = operands_of(function, name, args, kwargs, lambda t: not self._pass.depends_on_input([t]))
        if operands is None:
            return carry_out(function, args, kwargs)
        layer, weight = self.layer, operands.weight
        origin = None if self._pass.depends_on_input([weight]) else self._pass.origins.of(weight)
        call = self._pass.site_counts.next(layer, name, weight, once)
        axes = operands.output_axes, operands.channel_axis
        site = Site(layer, name, call, origin, *axes, self._pass.number, operands.labels)
        if origin is not None and origin.computed:
            self.computed[site.name] = site
        quantizers = None if self.site is None or self.is_exact(layer) else self.site(site)
        watched = nullcontext() if self.watch is None or self.site is None else self.watch.product(site, quantizers)
        with watched:
            if quantizers is None or not operands.x.numel():  # an expert that nothing was sent to
                result = carry_out(function, args, kwargs)
            else:
                own_bias = operands.bias is None or not self._pass.depends_on_input([operands.bias])
                result = compute(operands, site, quantizers, own_bias)
        if self.watch is not None:
            self.watch.begin(result)
        return result

    def _in_place(self, function: Any, name: str, args: Any, kwargs: Any, frozen: bool) -> Any:
        """Compute on a copy, quantize, write back: an operation that saved its own output still finds it."""
        target, copied = args[0], (args[0].clone(), *args[1:])
        at_site = self._has_sites and name in OPERATIONS
        result = (self._at_site if at_site else carry_out)(function, copied, kwargs)
        if self._can_be_pointed(result, frozen):
            self._warn_if_unknown(name)
            result = self.point(result, name)
        target.copy_(result)
        if frozen:
            self._pass.learned[target] = True
        return self._marked(target, None)

    def _warn_if_unknown(self, name: str) -> None:
        if name not in COMPUTES and name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"operation {name!r} is not in the tables of operations; it gets a point", stacklevel=2)

    def _marked(self, result: Any, made: Made | None) -> Any:
        """What a call gave, remembered as what depends on the input, or as what it was made of."""
        self._pass.mark(tensors_in(result), made)
        return result
