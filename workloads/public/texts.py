"""Sequences of tokens from text files, or from files of tokens, for language models."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from numeric_formats.damage import reading

TEXT, TOKENS, PAIRS = "text", "tokens", "pairs"
KINDS = (
    "text[@LENGTH]:PATH, a text file or a folder of .txt files, tokens[@LENGTH]:FILE, a .npy of whole numbers, or for "
    "an encoder pairs[@LENGTH]:PATH, text whose halves of sequences are to find each other"
)
TEST_SHARE = 0.1
"""The last part of the text, which is kept for evaluation."""


class Text:
    """Sequences of tokens of a text or a file of tokens.

    Args:
        data: text[@LENGTH]:PATH or pairs[@LENGTH]:PATH (a file, or all .txt files of a folder in the order of their
            names, one after another) or tokens[@LENGTH]:FILE.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: for other data.
    """

    def __init__(self, data: str):
        kind, _, place = data.partition(":")
        self.kind, at, length = kind.partition("@")
        if self.kind not in (TEXT, TOKENS, PAIRS) or not place or (at and not length.isdecimal()):
            raise ValueError(f"data {data!r}: language models take {KINDS}")
        self.place, self.asked = Path(place), int(length) if at else None
        self.length = self.vocabulary = 0
        self.tokenizer: Callable[[], Any]
        folder = self.kind != TOKENS and self.place.is_dir()
        self.files = sorted(self.place.glob("*.txt")) if folder else [self.place]
        if not self.files or not all(file.is_file() for file in self.files):
            needed = "a file of tokens" if self.kind == TOKENS else "a text file, or a folder of .txt files,"
            raise FileNotFoundError(f"{self.kind} {place}: {needed} is needed")

    def belong_to(self, tokenizer: Callable[[], Any], vocabulary: int, length: int, context: int | None) -> None:
        """Say whose tokens they are.

        Args:
            tokenizer: makes what makes tokens of text.
            vocabulary: how many tokens the network knows.
            length: of a sequence where no other was asked for, or the context where that is shorter.
            context: how many tokens the network sees at most; None where nobody knows.

        Raises:
            ValueError: the length that was asked for is more than the context, or fewer than two tokens.
        """
        if self.asked is not None and not 2 <= self.asked <= (context or self.asked):
            most = f"2 to {context}, which the network sees at once," if context else "2 or more"
            raise ValueError(f"sequences of {self.asked} tokens were asked for; {most} are possible")
        self.length = min(length, context or length) if self.asked is None else self.asked
        self.tokenizer, self.vocabulary = tokenizer, vocabulary

    @cached_property
    def sequences(self) -> Tensor:
        """All of them, (N, length) int64; what does not fill the last is left out."""
        tokens = self._from_numbers() if self.kind == TOKENS else self._from_text()
        if tokens.numel() and (tokens.max() >= self.vocabulary or tokens.min() < 0):
            largest = int(tokens.max() if tokens.max() >= self.vocabulary else tokens.min())
            of = f"{self.place} has" if self.kind == TOKENS else "the tokenizer makes"
            raise ValueError(
                f"{of} token {largest}; the network knows 0 to {self.vocabulary - 1}: tokens of another tokenizer"
            )
        return tokens[: len(tokens) // self.length * self.length].reshape(-1, self.length)

    def _from_text(self) -> Tensor:
        tokens: list[int] = []
        tokenizer = self.tokenizer()
        for file in self.files:
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"text {file} is not UTF-8: {error}") from error
            tokens += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if not tokens:
            raise ValueError(f"text {self.place}: the tokenizer makes no token of it; it is empty, or the tokenizer is")
        return torch.tensor(tokens, dtype=torch.int64)

    def _from_numbers(self) -> Tensor:
        with reading(f"tokens {self.place}", "a .npy of numbers"):
            found = np.load(self.place, allow_pickle=False)
        if not isinstance(found, np.ndarray) or not np.issubdtype(found.dtype, np.integer):
            kind = found.dtype if isinstance(found, np.ndarray) else "several arrays"
            raise ValueError(f"tokens {self.place} are {kind}; one array of whole numbers is needed")
        return torch.from_numpy(found.reshape(-1).astype(np.int64))

    @property
    def _tests(self) -> int:
        return math.ceil(TEST_SHARE * len(self.sequences))

    def train(self, size: int) -> list[Tensor]:
        """Mini-batches of the first nine tenths, in an order drawn once for all (seed 0)."""
        sequences = self.sequences[: len(self.sequences) - self._tests]
        order = np.random.default_rng(0).permutation(len(sequences))
        return self._split(sequences[torch.from_numpy(order)], size)

    def test(self, size: int) -> list[Tensor]:
        """Mini-batches of the last tenth, or one of all of it where that is less."""
        return self._split(self.sequences[len(self.sequences) - self._tests :], max(1, min(size, self._tests)))

    def _split(self, sequences: Tensor, size: int) -> list[Tensor]:
        if len(sequences) < size:
            raise ValueError(
                f"text {self.place} has {len(sequences)} sequences of {self.length} tokens, fewer than a mini-batch of "
                f"{size}; give a smaller batch size"
            )
        return list(sequences[: len(sequences) // size * size].split(size))


class Masked:
    """Mini-batches for an encoder, (tokens, targets): of each sequence a share of places, drawn once for all, holds the
    mask, and the targets are what was there; IGNORED elsewhere.

    Source: J. Devlin et al., "BERT", NAACL 2019, without their places that hold another token or their own.
    """

    SHARE = 0.15
    IGNORED = -100

    def __init__(self, text: Text, network: str):
        self.text, self.network = text, network

    @cached_property
    def mask(self) -> int:
        """The token that hides another."""
        token = self.text.tokenizer().mask_token_id
        if not isinstance(token, int):
            raise ValueError(f"{self.network}: its tokenizer has no mask, which an encoder is to fill in")
        return token

    def hidden(self, batches: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Mini-batches of sequences with masks in them."""
        generator, made = torch.Generator().manual_seed(0), []
        for tokens in batches:
            chosen = torch.rand(tokens.shape, generator=generator) < self.SHARE
            chosen[:, 0] |= ~chosen.any(1)  # one at least
            made.append((tokens.masked_fill(chosen, self.mask), tokens.masked_fill(~chosen, self.IGNORED)))
        return made

    def train(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """See `Text.train`."""
        return self.hidden(self.text.train(size))

    def test(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """See `Text.test`."""
        return self.hidden(self.text.test(size))
