"""Small language models: the next character of a text from those before it.

Sources: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 1997; A. Vaswani et al., "Attention
Is All You Need", NeurIPS 2017, with normalization first (R. Xiong et al., ICML 2020).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENGTH = 64
"""Characters that a model sees at once."""

TextBatch = tuple[Tensor, Tensor]


class LSTM(nn.Module):
    """Embedding, two LSTM layers, linear; its state is zero at the first character.

    Input (N, length) int64, output (N, length, symbols) float32: logits of each next character.
    """

    def __init__(self, symbols: int, width: int = 64, hidden: int = 160):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True)
        self.linear = nn.Linear(hidden, symbols)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.lstm(self.embedding(x))[0])


class Transformer(nn.Module):
    """Embeddings of characters and places, two layers of causal attention, normalization, linear.

    Input (N, length) int64 with length up to LENGTH, output (N, length, symbols) float32: logits of each next
    character.
    """

    mask: Tensor

    def __init__(self, symbols: int, width: int = 128, heads: int = 4, layers: int = 2):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.place = nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, symbols)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        y = self.embedding(x) + self.place(torch.arange(length, device=x.device))
        for layer in self.layers:
            y = layer(y, src_mask=self.mask[:length, :length], is_causal=True)
        return self.linear(self.norm(y))


def windows(symbols: Tensor) -> Tensor:
    """A text (N,) as windows (N // LENGTH, LENGTH + 1), or one less: every character but the first is once to be
    predicted."""
    return symbols.unfold(0, LENGTH + 1, LENGTH)


def to_batch(window: Tensor) -> TextBatch:
    """Windows (N, LENGTH + 1) as input and target, each (N, LENGTH)."""
    return window[:, :-1].contiguous(), window[:, 1:].contiguous()


def language_loss(model: nn.Module, batch: TextBatch) -> Tensor:
    """Mean cross-entropy of the next character, in nats."""
    return F.cross_entropy(model(batch[0]).flatten(0, 1).float(), batch[1].flatten())


def bits_per_character(model: nn.Module, batch: TextBatch) -> float:
    """Mean cross-entropy of the next character, in bits: the logarithm of the perplexity. Less is better."""
    with torch.no_grad():
        return language_loss(model, batch).item() / math.log(2)
