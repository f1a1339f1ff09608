"""A network traced by torch.fx: another forward pass, and in all else what it was, so that a loss finds on it what it
finds on the original (attributes, buffers, methods, unused modules, hooks)."""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn

from numeric_formats.messages import first_line


def hooked(module: nn.Module) -> bool:
    """Whether something of the user's happens before or after a module's own forward pass."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


class Traced(fx.GraphModule):
    """A traced network whose copies keep all that it holds; torch's own drop attributes and hooks."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Nothing of what the network's own class asks of classes that are made from it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        made = Traced.__new__(Traced)
        memo[id(self)] = made
        held = copy.deepcopy(self.__dict__, memo)
        root = nn.Module()
        root.__dict__.update(held)
        fx.GraphModule.__init__(made, root, held["_graph"])
        made.__dict__.update(held)
        return _with_class(made, type(self))

    def __reduce__(self) -> Any:
        if hooked(self):
            raise TypeError("hooks on a traced network are lost where it is pickled; keep its state_dict()")
        return super().__reduce__()


class _Held(nn.Module):
    """Stands before the network's own class, whose constructor is not to run again."""

    def __init__(self) -> None:
        nn.Module.__init__(self)


class _Tracer(fx.Tracer):
    """Remembers the module in which tracing is."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.inside.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        # Not in a finally: after an error, the module that made it is the last one.
        self.inside.pop()
        return result


def traced(model: nn.Module) -> fx.GraphModule:
    """The network, which becomes part of the result, with a forward pass that is a graph; in evaluation mode.

    Raises ValueError that names the module where tracing is impossible.
    """
    if "forward" in vars(model):
        raise ValueError(
            "the network itself has a forward pass put into the object, which torch.fx does not see; "
            "give it to the class"
        )
    if any(kind.__module__.startswith("transformers.") for kind in type(model).__mro__):
        raise ValueError(
            f"the network itself ({type(model).__name__}) is one of Hugging Face transformers, which torch.fx cannot "
            "trace: quantization after training does not take them; `formats train --method` quantizes them in training"
        )
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:
        where, module = "the network itself", model
        if tracer.inside:
            where, module = f"module {tracer.inside[-1]}", model.get_submodule(tracer.inside[-1])
        raise ValueError(
            f"{where} ({type(module).__name__}) cannot be traced by torch.fx: {first_line(error)}; "
            "its forward pass may not depend on values or shapes of tensors"
        ) from error
    try:
        made = Traced(model, graph)
    except Exception as error:
        raise ValueError(
            f"the network itself ({type(model).__name__}) cannot be made of a graph by torch.fx: {first_line(error)}"
        ) from error
    graph_own = {name: value for name, value in vars(made).items() if name not in _EVERY_MODULE}
    hidden = sorted(_names(model) & (graph_own.keys() | _GRAPH_NAMES))
    if hidden:
        raise ValueError(
            f"the network itself ({type(model).__name__}) has {', '.join(hidden)}, which torch.fx has for itself; "
            "rename what is called so"
        )
    # All of the network's own, modules that the graph does not call too.
    made.__dict__.update(vars(model) | graph_own)
    try:
        return _with_class(made, type(model)).eval()
    except TypeError as error:  # of a metaclass
        raise ValueError(
            f"the network itself ({type(model).__name__}) cannot be made of a graph by torch.fx: {first_line(error)}"
        ) from error


_EVERY_MODULE = frozenset(vars(nn.Module()))
_GRAPH_NAMES = frozenset(
    name for name in dir(fx.GraphModule) if name not in dir(nn.Module) and not name.startswith("__")
)


def _names(model: nn.Module) -> set[str]:
    """Of all that a network has: attributes, methods, modules, parameters and buffers; none for one that was traced."""
    if isinstance(model, fx.GraphModule):
        return set()
    return {*dir(type(model)), *vars(model), *model._modules, *model._parameters, *model._buffers} - _EVERY_MODULE


def _with_class(made: fx.GraphModule, kind: type[nn.Module]) -> fx.GraphModule:
    """Let a traced network be of a class too, so that its methods work, and isinstance does; once it holds all, which
    methods such as __getattr__ may need."""
    own = next(each for each in kind.__mro__ if not issubclass(each, fx.GraphModule | _Held))
    if own is not nn.Module:
        both = type(own.__name__, (Traced, _Held, own), {"__module__": own.__module__, "__doc__": own.__doc__})
        # torch puts the forward pass of each graph into a class of this name.
        made.__class__ = type("GraphModuleImpl", (both,), {})
        made.__class__.__name__ = own.__name__
        made.recompile()
    return made
