"""Language models of Hugging Face transformers with their tokenizers: public ones, and those of folders and files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import torch

from numeric_formats.damage import reading
from workloads.public.packages import import_extra, pretrained
from workloads.weights import read_state, refuse

GGUF = ".gguf"
ENCODER = "AutoModelForMaskedLM"
DECODER = "AutoModelForCausalLM"
OF_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "*.bpe")
"""What files of tokenizers are called."""

BARE = "AutoModel"


class Checkpoint(NamedTuple):
    """A network in float32; whether it is an encoder, which fills masked tokens in, or of which only what embeds tokens
    was asked for; and what makes its tokenizer."""

    model: Any
    encoder: bool
    tokenizer: Callable[[], Any]


def checkpoint(name: str, weights: Path | None, bare: bool = False, text: bool = False) -> Checkpoint:
    """A language model with its tokenizer.

    Args:
        name: of the hub, or a folder as weights; where those are given only what messages call it.
        weights: a folder as save_pretrained writes it, a file of weights beside config.json and tokenizer, or a .gguf.
        bare: an encoder without the part that fills masks in, which a file need not have.
        text: whether its tokenizer has to be there.

    Raises:
        ImportError: without transformers, or what it needs for the file.
        OSError: public weights cannot be loaded.
        ValueError: a file is damaged, does not fit, or is of no language model.
    """
    network = f"hf:{name}"
    if weights is None and Path(name).is_dir():
        weights = Path(name)
    if weights is not None:
        _check_place(weights, bare, text)  # before what takes long to load
    transformers = import_extra("transformers", "hf")
    if weights is None:
        config = pretrained(network, lambda: transformers.AutoConfig.from_pretrained(name))
        auto = _auto(transformers, network, config, bare)
        model = pretrained(network, lambda: getattr(transformers, auto).from_pretrained(name, dtype=torch.float32))
        return Checkpoint(
            model.base_model if bare else model,
            auto != DECODER,
            lambda: pretrained(network, lambda: transformers.AutoTokenizer.from_pretrained(name)),
        )
    with _without_bars(transformers):
        if weights.suffix.lower() == GGUF:
            return _from_gguf(transformers, network, weights)
        return _from_files(transformers, network, weights, bare)


def _check_place(weights: Path, bare: bool, text: bool) -> None:
    """FileNotFoundError where there is nothing, and ValueError where a folder lacks what is needed beside weights."""
    if not weights.exists():
        raise FileNotFoundError(f"there are no weights {weights}")
    if weights.suffix.lower() == GGUF:
        if bare:
            raise ValueError(f"{weights}: a {GGUF} is of a causal language model; pairs are for encoders")
        return
    folder = weights if weights.is_dir() else weights.parent
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} has no config.json; a folder as save_pretrained writes it, a file in one, or a {GGUF} is needed"
        )
    if text and not any(fnmatch(file.name, pattern) for file in folder.iterdir() for pattern in OF_TOKENIZERS):
        raise ValueError(
            f"{folder} has no tokenizer (tokenizer.json, vocab.json, ...), which text needs: its save_pretrained "
            "writes one there; tokens:FILE.npy needs none"
        )


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """Inside, transformers shows no bars of progress, which logs would be full of."""
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _auto(transformers: Any, network: str, config: Any, bare: bool) -> str:
    """Which of transformers' classes makes the network: of an encoder where its configuration says so. Where only what
    embeds tokens was asked for, that alone unless its file is of one that fills masks in."""
    kind, said = type(config), set(getattr(config, "architectures", None) or [])
    is_causal, is_masked = (
        kind in mapping
        for mapping in (transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_FOR_MASKED_LM_MAPPING)
    )
    fills = is_masked and transformers.MODEL_FOR_MASKED_LM_MAPPING[kind].__name__ in said
    if bare and is_masked and not any("LMHead" in name or "CausalLM" in name for name in said):
        return ENCODER if fills else BARE
    if bare:
        raise ValueError(
            f"{network}: a {type(config).__name__} is of no encoder of transformers; pairs are for encoders"
        )
    if is_masked and (not is_causal or fills):
        return ENCODER
    if is_causal:
        return DECODER
    raise ValueError(f"{network}: a {type(config).__name__} is of no causal or masked language model of transformers")


def _from_files(transformers: Any, network: str, weights: Path, bare: bool) -> Checkpoint:
    folder = weights if weights.is_dir() else weights.parent
    options: dict[str, Any] = {"ignore_mismatched_sizes": True, "output_loading_info": True, "dtype": torch.float32}
    here = {"local_files_only": True}
    with reading(f"configuration {folder / 'config.json'}", "that of a model of transformers"):
        config = transformers.AutoConfig.from_pretrained(folder, **here)
    auto = _auto(transformers, network, config, bare)
    made = getattr(transformers, auto)
    if weights.is_dir():
        with reading(f"weights {folder}", f"those of {network}"):
            model, info = made.from_pretrained(folder, **options, **here)
    else:
        state = read_state(weights)
        with reading(f"weights {weights}", f"those of {network}"):
            with torch.device("meta"):  # only to learn which class it is
                kind = type(made.from_config(config))
            model, info = kind.from_pretrained(None, config=config, state_dict=state, **options, **here)
    if bare:  # a mean over tokens is taken, for which nothing else is needed
        info["missing_keys"] = {key for key in info["missing_keys"] if not key.startswith("pooler.")}
    _check(info, weights, network)
    found = model.base_model if bare else model
    return Checkpoint(found, auto != DECODER, lambda: _tokenizer(transformers, folder, **here))


def _from_gguf(transformers: Any, network: str, file: Path) -> Checkpoint:
    for package in ("gguf", "accelerate"):
        import_extra(package, "gguf")
    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    options: dict[str, Any] = {"output_loading_info": True, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):  # which otherwise may leave weights in their blocks
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    # What it says on the way is a bar of progress.
    with reading(f"weights {file}", "a GGUF of a causal language model"), redirect_stderr(io.StringIO()):
        model, info = transformers.AutoModelForCausalLM.from_pretrained(file.parent, **where, **options)
    _check(info, file, network)
    return Checkpoint(model, False, lambda: _tokenizer(transformers, file.parent, **where))


def _check(info: Any, weights: Path, network: str) -> None:
    wrong = [
        f"{name} is {tuple(given)}, the network's {tuple(needed)}"
        for name, given, needed in sorted(info["mismatched_keys"])
    ]
    refuse(wrong + [f"{name} is missing" for name in sorted(info["missing_keys"])], weights, network)


def _tokenizer(transformers: Any, folder: Path, **where: Any) -> Any:
    with reading(f"the tokenizer of {folder / where.get('gguf_file', '')}", "one of transformers"):
        with redirect_stderr(io.StringIO()):
            return transformers.AutoTokenizer.from_pretrained(folder, **where)


def embedded(network: str, model: Any) -> int:
    """How many tokens a network knows.

    Raises:
        ValueError: neither its configuration nor itself says so.
    """
    configured = getattr(_text_config(model), "vocab_size", None)
    rows = model.get_input_embeddings()
    known = [each for each in (configured, None if rows is None else rows.weight.shape[0]) if isinstance(each, int)]
    if not known:
        raise ValueError(f"{network}: a {type(model).__name__} does not say how many tokens it knows (vocab_size)")
    return min(known)


def context_of(model: Any) -> int | None:
    """How many tokens a network sees at most, where its configuration says so."""
    context = getattr(_text_config(model), "max_position_embeddings", None)
    return context if isinstance(context, int) and context > 0 else None


def _text_config(model: Any) -> Any:
    """The configuration of the part for text, where there are several."""
    config = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
