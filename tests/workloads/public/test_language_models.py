"""Public language models by name, from folders as transformers writes them."""

import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from predictor import measure
from predictor.measuring.workers import Workers
from search.ranking import rank
from tests.processes import python
from training.calibration.tracing import traced
from workloads import load
from workloads.public.checkpoints import context_of, embedded

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
def test_no_bar_of_progress_is_shown_and_the_users_own_setting_stays(folder, capfd):
    log = transformers.utils.logging
    assert log.is_progress_bar_enabled()
    load("hf:mine", weights=folder, data=f"text:{folder / 'text.txt'}")
    assert capfd.readouterr().err == ""
    assert log.is_progress_bar_enabled()


@pytest.mark.parametrize("kind", ["gpt2"], indirect=True)
def test_quantization_after_training_says_that_it_does_not_take_them(folder):
    model = load("hf:mine", weights=folder, data=f"text:{folder / 'text.txt'}").model
    with pytest.raises(ValueError, match=r"^the network itself \(\w+\) is one of Hugging Face transformers, [^\n]*$"):
        traced(model)


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

    def sizes(config, rows):
        return context_of(Made(config, rows)), embedded("hf:x", Made(config, rows))

    assert sizes(SimpleNamespace(vocab_size=7), None) == (None, 7)
    assert sizes(SimpleNamespace(vocab_size=7), 5) == (None, 5)
    assert sizes(SimpleNamespace(max_position_embeddings=-1), 9) == (None, 9)
    assert sizes(SimpleNamespace(max_position_embeddings=5), 9) == (5, 9)
    with pytest.raises(ValueError, match="hf:x: a Made does not say how many tokens it knows"):
        embedded("hf:x", Made(SimpleNamespace(), None))


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"], indirect=True)
def test_other_processes_find_what_was_measured(kind, folder):
    name, data = f"hf:{kind}", f"text:{folder / 'text.txt'}"
    code = (
        "import sys; from workloads import load; from predictor.measuring.validity import context_of\n"
        "from predictor.measuring.units import Subject; print(context_of(Subject(load(*sys.argv[1:]))))"
    )
    found = {python("-c", code, name, data, folder, PYTHONHASHSEED=seed).stdout for seed in (1, 2)}
    assert len(found) == 1


def test_what_does_not_go_together(folder, tmp_path):
    text = f"text:{folder / 'text.txt'}"
    state = {"lm_head.weight": torch.zeros(3, 3)}
    torch.save(state, wrong := tmp_path / "wrong.pt")
    for entry in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / entry).write_bytes((folder / entry).read_bytes())
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "config.json").write_bytes((folder / "config.json").read_bytes())
    for arguments, error, message in (
        (("hf:tiny", "cifar10", folder), ValueError, r"language models take text\[@LENGTH\]:PATH"),
        (("hf:tiny", f"text:{tmp_path}/none", folder), FileNotFoundError, "a text file, or a folder of .txt files"),
        (("hf:tiny", f"text:{tmp_path}/empty", folder), FileNotFoundError, "a text file, or a folder of .txt files"),
        (("hf:tiny", text, tmp_path / "none"), FileNotFoundError, "there are no weights"),
        (("hf:tiny", text, tmp_path / "empty"), ValueError, "has no config.json"),
        (("hf:tiny", text, wrong), ValueError, r"wrong.pt does not fit hf:tiny: .* and \d+ more"),
        (
            ("hf:tiny", text, tmp_path / "mute"),
            ValueError,
            r"mute has no tokenizer \(tokenizer.json, ",
        ),
        ((f"hf:{tmp_path / 'mute'}", text), ValueError, "mute has no tokenizer"),
        ((f"hf:{tmp_path / 'empty'}", text), ValueError, "has no config.json"),
    ):
        with pytest.raises(error, match=message) as caught:
            load(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is not UTF-8"):
        load("hf:tiny", f"text:{tmp_path / 'bad.txt'}", folder).minibatches()
    with pytest.raises(ValueError, match="has 22 sequences of 16 tokens, fewer than a mini-batch of 64"):
        load("hf:tiny", text, folder).minibatches(64)


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_bfloat16_lengths_and_files_of_tokens(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "net")
    made = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    made.save_pretrained(tmp_path / "net")
    text = load("hf:tiny", f"text@8:{folder / 'text.txt'}", tmp_path / "net")
    assert {p.dtype for p in text.model.parameters()} == {torch.float32}
    for name, value in made.state_dict().items():
        assert torch.equal(value.float(), text.model.state_dict()[name])
    # 400 words in 50 sequences, of which the last 5 are for evaluation.
    assert [tuple(batch.shape) for batch in text.train(9)] == [(9, 8)] * 5
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = np.array(tokenizer((folder / "text.txt").read_text())["input_ids"], np.uint16)
    np.save(tmp_path / "tokens.npy", tokens.reshape(2, 200))
    for entry in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "net" / entry).unlink()  # which nothing asks for any more
    numbers = load("hf:tiny", f"tokens@8:{tmp_path / 'tokens.npy'}", tmp_path / "net")
    for one, other in zip(text.train(9), numbers.train(9), strict=True):
        assert torch.equal(one, other)
    again = load(numbers.source)
    assert torch.equal(again.test(5)[0], torch.from_numpy(tokens[-40:].astype(np.int64)).reshape(5, 8))
    for data, message in (
        (np.array([3, len(WORDS) + 5]), r"tokens.npy has token 19; the network knows 0 to 8: tokens of another"),
        (np.array([3, -1]), "tokens.npy has token -1; the network knows"),
        (np.array([0.5]), "are float64; one array of whole numbers is needed"),
    ):
        np.save(tmp_path / "tokens.npy", data)
        with pytest.raises(ValueError, match=message):
            load("hf:tiny", f"tokens:{tmp_path / 'tokens.npy'}", tmp_path / "net").minibatches()
    (tmp_path / "tokens.npy").write_bytes(b"no numbers")
    with pytest.raises(ValueError, match=r"tokens.npy cannot be read as a .npy of numbers"):
        load("hf:tiny", f"tokens:{tmp_path / 'tokens.npy'}", tmp_path / "net").minibatches()
    with pytest.raises(ValueError, match="net has no tokenizer"):
        load("hf:tiny", f"text:{folder / 'text.txt'}", tmp_path / "net").minibatches()
    for length in (17, 1):
        with pytest.raises(ValueError, match=rf"sequences of {length} tokens were asked for; 2 to 16, which"):
            load("hf:tiny", f"text@{length}:{folder / 'text.txt'}", folder)
    for data in ("text@:x", "text@-3:x", "tokens", "token:x"):
        with pytest.raises(ValueError, match="language models take"):
            load("hf:tiny", data, folder)


@pytest.mark.parametrize("kind", ["gpt2"], indirect=True)
def test_the_loss_of_an_encoder(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    sizes = {"vocab_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}
    config = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=16)
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    text = f"text:{tmp_path / 'text.txt'}"
    with pytest.raises(ValueError, match="hf:tiny: its tokenizer has no mask, which an encoder is to fill in"):
        load("hf:tiny", text, tmp_path).minibatches(4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, mask_token="[MASK]")
    tokenizer.save_pretrained(tmp_path)
    workload = load("hf:tiny", text, tmp_path)
    assert type(workload.model).__name__ == "BertForMaskedLM"
    tokens, targets = workload.train(4)[0]
    masked = tokens == tokenizer.mask_token_id
    assert masked.any(1).all()
    assert 0.05 < masked.float().mean() < 0.35
    assert torch.equal(targets != -100, masked)
    whole = load("hf:tiny", text, folder).train(4)[0]
    assert torch.equal(torch.where(masked, targets, tokens), whole)
    assert torch.equal(workload.train(4)[0][0], tokens)
    logits = workload.model(tokens).logits.log_softmax(-1)
    chosen = [-logits[n, place, targets[n, place]] for n, place in masked.nonzero().tolist()]
    expected = torch.stack(chosen).mean().item()
    assert math.isclose(workload.loss(workload.model, (tokens, targets)).item(), expected, rel_tol=1e-6)
    assert math.isclose(workload.metric(workload.model, (tokens, targets)), math.exp(expected), rel_tol=1e-6)
    assert measure(workload, ["FP134"], ["AE"], minibatches=1, batch_size=4).angle[0] > 0


@pytest.mark.parametrize("kind", ["gpt2"], indirect=True)
def test_the_contrastive_loss_of_an_encoder(folder, tmp_path):
    """Halves of sequences find each other; from a file with a head, and from one without."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    sizes = {"vocab_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}
    config = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=16)
    torch.manual_seed(0)
    made = transformers.BertForMaskedLM(config).eval()
    made.save_pretrained(tmp_path)
    text = f"pairs@9:{tmp_path / 'text.txt'}"
    workload = load("hf:tiny", text, tmp_path)
    tokens = workload.train(3)[0]
    assert tokens.shape == (3, 9)
    halves = []
    for part in (tokens[:, :4], tokens[:, 4:8]):
        hidden = made(part, output_hidden_states=True).hidden_states[-1].double()
        mean = hidden.sum(1) / 4
        halves.append(mean / mean.square().sum(1, keepdim=True).sqrt())
    scores = torch.exp((halves[0] @ halves[1].T) / 0.05)
    ways = [-(scores.diag() / scores.sum(axis)).log().mean() for axis in (0, 1)]
    expected = (sum(ways) / 2).item()
    assert math.isclose(workload.loss(workload.model, tokens).item(), expected, rel_tol=1e-5)
    found = [int(row.argmax()) == number for number, row in enumerate(scores)]
    assert workload.metric(workload.model, tokens) == sum(found) / 3
    assert not workload.lower_is_better
    assert measure(workload, ["FP134"], ["AE"], minibatches=1, batch_size=4).angle[0] > 0
    made.bert.save_pretrained(tmp_path)
    assert math.isclose(load("hf:tiny", text, tmp_path).loss(made.bert, tokens).item(), expected, rel_tol=1e-5)
    bare = load("hf:tiny", text, tmp_path)
    assert math.isclose(bare.loss(bare.model, tokens).item(), expected, rel_tol=1e-5)
    assert measure(bare, ["FP134"], ["AE"], minibatches=1, batch_size=4).angle[0] > 0
    with pytest.raises(ValueError, match="two sequences or more"):
        workload.loss(workload.model, tokens[:1])
    with pytest.raises(ValueError, match="hf:tiny: a GPT2Config is of no encoder of transformers"):
        load("hf:tiny", text, folder)


def permuted(weight, heads):
    """Queries and keys as llama.cpp has them: of each head the halves of a turn beside each other."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def gguf_of(folder: Path, file: Path) -> None:
    """The Llama of a folder as a GGUF, in float16 and float32."""
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    state = {name: value.float().numpy() for name, value in load_file(folder / "model.safetensors").items()}
    made = gguf.GGUFWriter(file, "llama")
    made.add_block_count(1)
    made.add_context_length(16)
    made.add_embedding_length(16)
    made.add_feed_forward_length(24)
    made.add_head_count(4)
    made.add_head_count_kv(2)
    made.add_layer_norm_rms_eps(1e-6)
    made.add_rope_dimension_count(4)
    made.add_rope_freq_base(10000.0)
    words = ["?", *dict.fromkeys(WORDS)]
    made.add_vocab_size(len(words))
    made.add_tokenizer_model("gpt2")
    made.add_token_list(words)
    made.add_token_types([1] * len(words))
    made.add_token_merges([])
    made.add_unk_token_id(0)
    names = {
        **{"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"},
        **{f"model.layers.0.self_attn.{n}_proj": f"blk.0.attn_{n}" for n in "qkv"},
        "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
        **{f"model.layers.0.mlp.{n}_proj": f"blk.0.ffn_{n}" for n in ("gate", "up", "down")},
        "model.layers.0.input_layernorm": "blk.0.attn_norm",
        "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    }
    for name, theirs in names.items():
        value = state[f"{name}.weight"]
        if theirs.endswith(("attn_q", "attn_k")):
            value = permuted(value, 4 if theirs.endswith("q") else 2)
        made.add_tensor(f"{theirs}.weight", value.astype(np.float16 if value.ndim > 1 else np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_a_gguf_gives_what_the_folder_gives(folder, tmp_path, capfd):
    gguf_of(folder, file := tmp_path / "tiny.gguf")
    np.save(tmp_path / "tokens.npy", np.arange(400) % 9)
    data = f"tokens:{tmp_path / 'tokens.npy'}"
    workload, other = load("hf:tiny", data, file), load("hf:tiny", data, folder)
    assert {p.dtype for p in workload.model.parameters()} == {torch.float32}
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, workload.model.state_dict()[name]), name
    batch = workload.minibatches(4)[0]
    assert torch.equal(workload.loss(workload.model, batch), other.loss(other.model, batch))
    assert "Converting" not in capfd.readouterr().err
    content = file.read_bytes()
    for length in (0, 3, 23, 200, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(
            ValueError, match=r"tiny.gguf cannot be read as a GGUF of a causal language model: "
        ) as caught:
            load("hf:tiny", data, file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_what_a_gguf_needs_is_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ImportError, match=r"gguf: networks need the extra gguf of numeric-formats \(pip install"):
        load("hf:tiny", f"text:{folder / 'text.txt'}", tmp_path / "x.gguf")
