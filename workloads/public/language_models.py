"""Public causal language models of Hugging Face transformers by name, on text files."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.public.packages import import_extra, pretrained
from workloads.weights import read_state, refuse
from workloads.workload import Workload

LENGTH = 128
"""Tokens of a sequence, or as many as the model's context has where that is shorter."""
BATCH_SIZE = 8
FEW = 4
"""Tokens on which it is tried whether a network is causal."""
TEST_SHARE = 0.1
"""The last part of the text, which is kept for evaluation."""


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each next token; tokens (N, length) int64."""
    logits = model(input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def perplexity(model: nn.Module, tokens: Tensor) -> float:
    """e to the mean cross-entropy of each next token of a mini-batch."""
    with torch.no_grad():
        return math.exp(next_token_loss(model, tokens).item())


class Text:
    """Sequences of tokens from a text file, or from all .txt files of a folder in the order of their names, one after
    another.

    Raises FileNotFoundError where there is none.
    """

    def __init__(self, place: Path, tokenizer: Any, length: int, vocabulary: int):
        self.files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
        self.place, self.tokenizer, self.length, self.vocabulary = place, tokenizer, length, vocabulary
        if not self.files or not all(file.is_file() for file in self.files):
            raise FileNotFoundError(f"text {place}: a text file, or a folder of .txt files, is needed")

    @cached_property
    def sequences(self) -> Tensor:
        """All of them, (N, length) int64; what does not fill the last is left out."""
        tokens: list[int] = []
        for file in self.files:
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"text {file} is not UTF-8: {error}") from error
            tokens += self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if tokens and max(tokens) >= self.vocabulary:
            raise ValueError(f"the tokenizer makes token {max(tokens)}; the network knows {self.vocabulary}")
        return torch.tensor(tokens[: len(tokens) // self.length * self.length]).reshape(-1, self.length)

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


def language_model(name: str, data: str, weights: Path | None) -> Workload:
    """A causal language model on `text:PATH`: the loss is the cross-entropy of each next token, the metric perplexity.

    weights: a folder with weights, config.json and tokenizer as save_pretrained writes them, or a file of weights
    beside these two; `name` is then what reports print. None: what is public under the name. Raises ImportError without
    transformers, OSError where public weights cannot be loaded, ValueError and FileNotFoundError where data, weights
    and network do not go together.
    """
    network = f"hf:{name}"
    kind, _, place = data.partition(":")
    if kind != "text" or not place:
        raise ValueError(f"data {data!r}: language models take text:PATH, a text file or a folder of .txt files")
    transformers = import_extra("transformers", "hf")
    if weights is None:
        model = pretrained(
            network, lambda: transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        )
        tokenizer = pretrained(network, lambda: transformers.AutoTokenizer.from_pretrained(name))
    else:
        model, tokenizer = _local(transformers, network, weights)
    length, vocabulary = _sizes(network, model)
    _check_causal(network, model, vocabulary)
    text = Text(Path(place), tokenizer, length, vocabulary)
    return Workload(
        network,
        model,
        text.train,
        next_token_loss,
        train=text.train,
        test=text.test,
        metric=perplexity,
        lower_is_better=True,
        batch_size=BATCH_SIZE,
    )


def _sizes(network: str, model: Any) -> tuple[int, int]:
    """Tokens of a sequence, and how many tokens the network knows: of the part for text, where a configuration has
    several. Raises ValueError where neither that nor the network says how many."""
    config = model.config
    if hasattr(config, "get_text_config"):
        config = config.get_text_config(decoder=True)
    context = getattr(config, "max_position_embeddings", None)
    vocabulary = getattr(config, "vocab_size", None)
    if not isinstance(vocabulary, int) and (embedding := model.get_input_embeddings()) is not None:
        vocabulary = embedding.weight.shape[0]
    if not isinstance(vocabulary, int):
        raise ValueError(f"{network}: a {type(model).__name__} does not say how many tokens it knows (vocab_size)")
    return min(LENGTH, context) if isinstance(context, int) and context > 0 else LENGTH, vocabulary


def _check_causal(network: str, model: Any, vocabulary: int) -> None:
    """ValueError where what a network says of a token depends on the next one, as in an encoder."""
    tokens = (torch.arange(FEW) % vocabulary).repeat(2, 1)
    tokens[1, -1] = (tokens[0, -1] + 1) % vocabulary
    with torch.no_grad():
        one, other = model(input_ids=tokens, use_cache=False).logits[:, :-1].double()
    if not (one - other).norm() <= 1e-3 * one.norm():
        raise ValueError(f"{network}: a {type(model).__name__} sees the tokens that it is to predict: it is not causal")


def _local(transformers: Any, network: str, weights: Path) -> tuple[nn.Module, Any]:
    folder = weights if weights.is_dir() else weights.parent
    if not weights.exists():
        raise FileNotFoundError(f"there are no weights {weights}")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} has no config.json; a folder as save_pretrained writes it, or a file in one, is needed"
        )
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
        "local_files_only": True,
    }
    auto = transformers.AutoModelForCausalLM
    if weights.is_dir():
        model, info = auto.from_pretrained(folder, **options)
    else:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):  # only to learn which class it is
            kind = type(auto.from_config(config))
        model, info = kind.from_pretrained(None, config=config, state_dict=read_state(weights), **options)
    wrong = [
        f"{name} is {tuple(given)}, the network's {tuple(needed)}"
        for name, given, needed in sorted(info["mismatched_keys"])
    ]
    refuse(wrong + [f"{name} is missing" for name in sorted(info["missing_keys"])], weights, network)
    return model, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
