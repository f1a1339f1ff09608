"""Public language models by name, from folders as transformers writes them."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from predictor import measure
from predictor.measuring.workers import Workers
from search.stages import rank
from workloads import load
from workloads.public.language_models import _sizes

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

WORDS = ["the", "cat", "saw", "a", "dog", "and", "the", "dog", "saw", "a", "cat", "near", "the", "house"]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma3"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    """A tiny network with its tokenizer, in float16, and a text of 400 words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp(kind)
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["?", *WORDS]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)
    sizes = {"vocab_size": len(vocabulary), "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, n_positions=16, **sizes)
    elif kind == "gemma3":  # a language model beside a model of images, with a configuration for each
        text = transformers.Gemma3TextConfig(
            **sizes,
            **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
            **{"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 16, "pad_token_id": 0},
        )
        images = transformers.SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
        config = transformers.Gemma3Config(
            text_config=text, vision_config=images, mm_tokens_per_image=4, image_token_index=7
        )
    else:
        shape = {
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_size": 16,
            "intermediate_size": 24,
        }
        config = transformers.LlamaConfig(**shape, max_position_embeddings=16, **sizes)
    torch.manual_seed(0)
    auto = transformers.Gemma3ForConditionalGeneration if kind == "gemma3" else transformers.AutoModelForCausalLM
    made = auto(config) if kind == "gemma3" else auto.from_config(config)
    made.half().save_pretrained(folder)
    (folder / "text.txt").write_text(" ".join(WORDS[n * n % len(WORDS)] for n in range(400)))
    return folder


def test_loss_metric_and_measurement(folder):
    workload = load("hf:tiny", f"text:{folder / 'text.txt'}", folder)
    assert {p.dtype for p in workload.model.parameters()} == {torch.float32}
    batches = workload.train(4)
    # 25 sequences of 16, of which the last 3 are for evaluation.
    assert [tuple(batch.shape) for batch in batches] == [(4, 16)] * 5
    [held_out] = workload.test(64)
    assert held_out.shape == (3, 16)
    logits = workload.model(held_out).logits
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), held_out[:, 1:].reshape(-1)).item()
    assert math.isclose(workload.metric(workload.model, held_out), math.exp(expected), rel_tol=1e-6)
    # INT6 with a free binade flushes a whole gradient of one of these networks.
    found = measure(workload, ["FP134", "INT6"], minibatches=2, batch_size=4, scheme="current")
    assert (found.angle > 0).all()
    assert found.angle.max() < 90


def test_a_file_of_weights_gives_what_the_folder_gives(folder):
    text = f"text:{folder}"
    whole, single = load("hf:tiny", text, folder), load("hf:tiny", text, folder / "model.safetensors")
    published = load_file(folder / "model.safetensors")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, single.model.state_dict()[name])
        assert name not in published or torch.equal(value, published[name].float())
    assert load(single.source).source == single.source


@pytest.mark.parametrize("kind", ["gpt2"], indirect=True)
def test_an_encoder_is_refused(folder, tmp_path):
    for entry in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / entry).write_bytes((folder / entry).read_bytes())
    config = transformers.BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="BertLMHeadModel sees the tokens that it is to predict"):
        load("hf:tiny", f"text:{folder / 'text.txt'}", tmp_path)


def test_sizes_of_networks_whose_configuration_says_little():
    class Made:
        def __init__(self, config, rows):
            self.config, self.rows = config, rows

        def get_input_embeddings(self):
            return None if self.rows is None else torch.nn.Embedding(self.rows, 2)

    assert _sizes("hf:x", Made(SimpleNamespace(vocab_size=7), None)) == (128, 7)
    assert _sizes("hf:x", Made(SimpleNamespace(max_position_embeddings=-1), 9)) == (128, 9)
    assert _sizes("hf:x", Made(SimpleNamespace(max_position_embeddings=5), 9)) == (5, 9)
    with pytest.raises(ValueError, match="hf:x: a Made does not say how many tokens it knows"):
        _sizes("hf:x", Made(SimpleNamespace(), None))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2"], indirect=True)
def test_other_processes_make_the_same_workload(folder):
    workload = load("hf:tiny", f"text:{folder / 'text.txt'}", folder)
    options = {"effects": ("E", "AE"), "minibatches": 2, "batch_size": 4, "exhaustive": True}
    here = rank(workload, ["FP134", "INT6"], **options)
    with Workers(1, torch.get_num_threads()) as workers:
        there = rank(workload, ["FP134", "INT6"], **options, executor=workers)
    assert there.table["angle_AE"].tolist() == here.table["angle_AE"].tolist()
    assert there.table["name"].tolist() == ["FP134", "INT6"]


def test_what_does_not_go_together(folder, tmp_path):
    text = f"text:{folder / 'text.txt'}"
    state = {"lm_head.weight": torch.zeros(3, 3)}
    torch.save(state, wrong := tmp_path / "wrong.pt")
    for entry in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / entry).write_bytes((folder / entry).read_bytes())
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    for arguments, error, message in (
        (("hf:tiny", "cifar10", folder), ValueError, "language models take text:PATH"),
        (("hf:tiny", f"text:{tmp_path}/none", folder), FileNotFoundError, "a text file, or a folder of .txt files"),
        (("hf:tiny", f"text:{tmp_path}/empty", folder), FileNotFoundError, "a text file, or a folder of .txt files"),
        (("hf:tiny", text, tmp_path / "none"), FileNotFoundError, "there are no weights"),
        (("hf:tiny", text, tmp_path / "empty"), ValueError, "has no config.json"),
        (("hf:tiny", text, wrong), ValueError, r"wrong.pt does not fit hf:tiny: .* and \d+ more"),
    ):
        with pytest.raises(error, match=message) as caught:
            load(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is not UTF-8"):
        load("hf:tiny", f"text:{tmp_path / 'bad.txt'}", folder).minibatches()
    with pytest.raises(ValueError, match="has 22 sequences of 16 tokens, fewer than a mini-batch of 64"):
        load("hf:tiny", text, folder).minibatches(64)
