"""Networks with attention, and the question that an answer is not to: data flow, or operands of products."""

from __future__ import annotations

from torch import nn

from predictor.effects import Points

SENTENCE = (
    "this network has attention in it, and here everything between its products was rounded too, residual stream and "
    "normalization among it: for what FP8, MX and NVFP4 recipes round, the operands of products alone, say --points "
    "operands"
)


def has_attention(model: nn.Module) -> bool:
    """Whether a module of it is called attention, by its class or its name."""
    return any(
        isinstance(module, nn.MultiheadAttention)
        or "attention" in type(module).__name__.lower()
        or name.rpartition(".")[2] in ("attn", "attention", "self_attn", "self_attention")
        for name, module in model.named_modules()
    )


def other_question(model: nn.Module, points: Points) -> list[str]:
    """What is to be said where formats were rounded in the data flow of a transformer, which its users rarely do."""
    return [SENTENCE] if points is Points.DATAFLOW and has_attention(model) else []
