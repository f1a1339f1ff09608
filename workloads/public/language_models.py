"""Public language models of Hugging Face transformers by name: causal ones, and encoders that fill masks in or embed
text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.public.checkpoints import checkpoint, context_of, embedded
from workloads.public.texts import PAIRS, TOKENS, Masked, Text
from workloads.workload import Workload

LENGTH = 128
"""Tokens of a sequence, or as many as the model's context has where that is shorter."""
BATCH_SIZE = 8
FEW = 4
"""Tokens on which it is tried whether a network is causal."""
TEMPERATURE = 0.05
"""That cosines are divided by in the contrastive loss."""


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each next token; tokens (N, length) int64."""
    logits = model(input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def masked_token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy of what masks hide; tokens and targets, both (N, length) int64."""
    tokens, targets = batch
    logits = model(input_ids=tokens).logits
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=Masked.IGNORED)


def cosines(model: nn.Module, tokens: Tensor) -> Tensor:
    """Of the embeddings of first halves of sequences (rows) with those of second halves: the mean over a half's tokens
    of the last hidden states, tokens (N, length) int64. Of an odd length the last token is left out."""
    half = tokens.shape[1] // 2
    halves = torch.cat([tokens[:, :half], tokens[:, half : 2 * half]])
    hidden = model(input_ids=halves).last_hidden_state
    first, second = F.normalize(hidden.mean(1), dim=1).chunk(2)
    return first @ second.T


def contrastive_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """InfoNCE: each half of a sequence is to find its other half among those of the mini-batch, mean of both ways.

    Source: A. van den Oord et al., "Representation learning with contrastive predictive coding", 2018; temperature and
    cosine as T. Gao et al., "SimCSE", EMNLP 2021.
    """
    if len(tokens) < 2:
        raise ValueError("pairs need mini-batches of two sequences or more, to tell one from another")
    logits, own = cosines(model, tokens) / TEMPERATURE, torch.arange(len(tokens), device=tokens.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def found_pairs(model: nn.Module, tokens: Tensor) -> float:
    """The share of first halves of a mini-batch whose nearest second half is their own."""
    with torch.no_grad():
        own = torch.arange(len(tokens), device=tokens.device)
        return (cosines(model, tokens).argmax(1) == own).double().mean().item()


def perplexity(model: nn.Module, tokens: Tensor) -> float:
    """e to the mean cross-entropy of each next token of a mini-batch."""
    with torch.no_grad():
        return math.exp(next_token_loss(model, tokens).item())


def masked_perplexity(model: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """e to the mean cross-entropy of what masks hide in a mini-batch."""
    with torch.no_grad():
        return math.exp(masked_token_loss(model, batch).item())


def language_model(name: str, data: str, weights: Path | None) -> Workload:
    """A language model on text: the loss is the cross-entropy of each next token, or of an encoder (a masked language
    model) that of masked ones; the metric is perplexity. An encoder on pairs has the contrastive loss of halves that
    are to find each other, and the share that does as its metric.

    weights: a folder with weights, config.json and tokenizer as save_pretrained writes them, a file of weights beside
    these two, or a GGUF; `name` is then what reports print. None: such a folder of that name, or what is public under
    it. data: `Text`'s. Raises ImportError without transformers, OSError where public weights cannot be loaded,
    ValueError and FileNotFoundError where data, weights and network do not go together.
    """
    network = f"hf:{name}"
    text = Text(data)
    made = checkpoint(name, weights, bare=text.kind == PAIRS, text=text.kind != TOKENS)
    vocabulary = embedded(network, made.model)
    text.belong_to(made.tokenizer, vocabulary, LENGTH, context_of(made.model))
    lower, loss = True, masked_token_loss if made.encoder else next_token_loss
    if text.kind == PAIRS:
        batches: Any = text.train
        options: dict[str, Any] = {"train": text.train, "test": text.test, "metric": found_pairs}
        lower, loss = False, contrastive_loss
    elif made.encoder:
        masked = Masked(text, network)
        batches = masked.train
        options = {"train": masked.train, "test": masked.test, "metric": masked_perplexity}
    else:
        _check_causal(network, made.model, vocabulary)
        batches = text.train
        options = {"train": text.train, "test": text.test, "metric": perplexity}
    return Workload(network, made.model, batches, loss, **options, lower_is_better=lower, batch_size=BATCH_SIZE)


def _check_causal(network: str, model: Any, vocabulary: int) -> None:
    """ValueError where what a network says of a token depends on the next one, as in an encoder."""
    tokens = (torch.arange(FEW) % vocabulary).repeat(2, 1)
    tokens[1, -1] = (tokens[0, -1] + 1) % vocabulary
    with torch.no_grad():
        one, other = model(input_ids=tokens, use_cache=False).logits[:, :-1].double()
    if not (one - other).norm() <= 1e-3 * one.norm():
        raise ValueError(f"{network}: a {type(model).__name__} sees the tokens that it is to predict: it is not causal")
