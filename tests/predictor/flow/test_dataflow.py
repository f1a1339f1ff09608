"""Points: how many on each kind of model, and what they leave unchanged."""

import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import checkpoint as torch_checkpoint
from torch.utils.checkpoint import checkpoint

import formats
from predictor.flow import dataflow
from predictor.flow.dataflow import DataFlow
from predictor.gradient.gradients import Gradients
from predictor.gradient.quantizers import activation_quantizer, error_quantizer
from predictor.scheme import CURRENT
from workloads import Workload
from workloads.networks.resnet import resnet18, resnet20

IMAGES = torch.linspace(-1, 1, 2 * 8 * 8).reshape(2, 1, 8, 8)
SEQUENCE = torch.linspace(-1, 1, 5 * 3 * 8).reshape(5, 3, 8)


def run(model, *inputs, **options):
    """Points of one forward pass in full precision, with their gradients and those of the plain model."""
    model.eval()

    def gradients():
        return torch.autograd.grad(scalar(model(*inputs, **options)), list(model.parameters()), allow_unused=True)

    plain = gradients()
    with DataFlow(model) as flow:
        total = scalar(model(*inputs, **options))
        seen = flow.gradients(total, list(model.parameters()))
    return flow, plain, seen


def scalar(output):
    if isinstance(output, torch.Tensor):
        return (output * torch.arange(output.numel()).reshape(output.shape)).sum() / output.numel()
    return sum(scalar(part) for part in output if part is not None)


def operations(flow):
    return [point.operation for point in flow.points]


def assert_same(plain, seen, exact):
    for a, b in zip(plain, seen, strict=True):
        assert (a is None) == (b is None)
        if a is not None and exact:
            assert torch.equal(a, b)
        elif a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Small(nn.Module):
    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.do = forward

    def forward(self, *inputs):
        return self.do(self, *inputs)


def conv_net(inplace):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU6(inplace=inplace),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5, inplace=inplace),
        nn.Linear(6, 3),
    )


@pytest.mark.parametrize("inplace", [False, True])
def test_convolutional(inplace):
    flow, plain, seen = run(conv_net(inplace), IMAGES)
    assert operations(flow) == ["input", "conv2d", "batch_norm", "conv2d", "avg_pool2d", "linear"]
    assert [p.last for p in flow.points] == [False] * 5 + [True]
    assert_same(plain, seen, True)


def test_residual_networks():
    torch.manual_seed(0)
    flow, plain, seen = run(resnet18(), IMAGES)
    # input, stem (conv, norm), 16 convs and norms, 8 additions, 3 projections with norms, mean, linear.
    assert len(flow.points) == 1 + 2 + 32 + 8 + 6 + 2
    assert_same(plain, seen, True)
    flow, plain, seen = run(resnet20(), IMAGES)
    assert len(flow.points) == 1 + 2 + 36 + 9 + 2
    assert operations(flow)[-2:] == ["adaptive_avg_pool2d", "linear"]
    assert {(s.operation, s.reason) for s in flow.skipped} == {
        ("relu", "chooses"), ("getitem", "chooses"), ("pad", "moves"), ("flatten", "moves"),
    }  # fmt: skip
    assert_same(plain, seen, True)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_lstm():
    torch.manual_seed(0)
    for options in (
        {},
        {"batch_first": True},
        {"bidirectional": True, "num_layers": 2},
        {"proj_size": 4},
        {"bias": False},
        {"dropout": 0.5, "num_layers": 2},
    ):
        model = nn.LSTM(8, 6, **options)
        flow, plain, seen = run(Small(lambda self, x: self.rnn(x)[0], rnn=model), SEQUENCE)
        steps = 3 if options.get("batch_first") else 5
        runs = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        # Once x.W_ih; a step: h.W_hh, sum, four gates, c, tanh(c), h, and the projection where there is one.
        assert len(flow.points) == 1 + runs * (1 + steps * (9 + bool(options.get("proj_size")))), options
        assert_same(plain, seen, False)


def test_gru_and_rnn():
    torch.manual_seed(0)
    flow, plain, seen = run(Small(lambda self, x: self.rnn(x)[0], rnn=nn.GRU(8, 6)), SEQUENCE)
    assert len(flow.points) == 1 + 1 + 5 * 8
    assert_same(plain, seen, False)
    for nonlinearity, each in (("tanh", 3), ("relu", 2)):
        flow, plain, seen = run(
            Small(lambda self, x: self.rnn(x), rnn=nn.RNN(8, 6, nonlinearity=nonlinearity)), SEQUENCE
        )
        assert len(flow.points) == 1 + 1 + 5 * each
        assert_same(plain, seen, False)


def test_recurrent_states_unbatched_and_packed():
    torch.manual_seed(0)
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        model = Small(lambda self, x: self.rnn(x), rnn=kind(8, 6, bidirectional=True))
        _, plain, seen = run(model, SEQUENCE[:, 0])
        assert_same(plain, seen, False)

        def packed(self, x):
            sequence = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 5, 2]), enforce_sorted=False)
            output, state = self.rnn(sequence)
            return nn.utils.rnn.pad_packed_sequence(output)[0], *(state if isinstance(state, tuple) else (state,))

        _, plain, seen = run(Small(packed, rnn=kind(8, 6, num_layers=2, bidirectional=True)), SEQUENCE)
        assert_same(plain, seen, False)


def test_recurrent_cells():
    torch.manual_seed(0)
    for kind, count in ((nn.LSTMCell, 10), (nn.GRUCell, 9), (nn.RNNCell, 4)):
        flow, plain, seen = run(Small(lambda self, x: self.rnn(x[0]), rnn=kind(8, 6)), SEQUENCE)
        assert len(flow.points) == 1 + count
        assert_same(plain, seen, False)


def test_transformer_layer():
    torch.manual_seed(0)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    for activation in ("relu", "gelu"):
        model = nn.TransformerEncoderLayer(8, 2, 16, activation=activation)
        flow, plain, seen = run(Small(lambda self, x: self.layer(x, src_mask=mask), layer=model), SEQUENCE)
        expected = [
            "input",
            "linear",
            "matmul",
            "softmax",
            "matmul",
            "linear",
            "add",
            "layer_norm",
            "linear",
            "linear",
            "add",
            "layer_norm",
        ]
        if activation == "gelu":
            expected.insert(9, "gelu")
        assert operations(flow) == expected
        assert_same(plain, seen, False)


def test_attention_in_all_its_forms():
    torch.manual_seed(0)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    allowed = torch.ones(5, 5, dtype=torch.bool).triu(1)
    cases = [
        ({}, {}),
        ({"bias": False}, {"attn_mask": allowed}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {"key_padding_mask": padding, "attn_mask": allowed}),
        ({"kdim": 4, "vdim": 6}, {"need_weights": False}),
        ({}, {"key_padding_mask": padding, "average_attn_weights": False}),
        ({"batch_first": True}, {}),
    ]
    for made, called in cases:
        attention = nn.MultiheadAttention(8, 2, **made)
        key, value = SEQUENCE[..., : made.get("kdim", 8)], SEQUENCE[..., : made.get("vdim", 8)]
        model = Small(lambda self, q, k, v, called=called: self.attention(q, k, v, **called), attention=attention)
        _, plain, seen = run(model, SEQUENCE, key, value)
        assert_same(plain, seen, False)
        model.eval()
        expected = model(SEQUENCE, key, value)
        with DataFlow(model):
            for a, b in zip(expected, model(SEQUENCE, key, value), strict=True):
                assert (a is None) == (b is None)
                if a is not None:
                    torch.testing.assert_close(a, b)


def test_scaled_dot_product_attention():
    weight = nn.Linear(8, 8)
    for options in ({}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": torch.ones(3, 3, dtype=torch.bool).tril()}):
        model = Small(
            lambda self, x, options=options: F.scaled_dot_product_attention(self.w(x), x, x, **options), w=weight
        )
        flow, plain, seen = run(model, SEQUENCE)
        assert operations(flow) == ["input", "linear", "matmul", "softmax", "matmul"]
        assert_same(plain, seen, False)


def test_operators_in_place_operations_and_shared_modules():
    def forward(self, x):
        y = self.w(x)
        y += x
        y = y * 2 / 4 + 0.5 * self.w(y)
        y = -y
        y.mul_(3).sigmoid_()
        y = torch.cat([y, y.exp()], -1)[..., :8].reshape(5, 3, 8)
        return (y - y.mean(-1, keepdim=True)).relu_()

    flow, plain, seen = run(Small(forward, w=nn.Linear(8, 8)), SEQUENCE)
    # w, +=, second w, +, mul_, sigmoid_, exp, mean, -; doubling, quartering, halving and negation are exact.
    assert operations(flow) == ["input", "linear", "add", "linear", "add", "mul", "sigmoid", "exp", "mean", "sub"]
    assert_same(plain, seen, False)


def test_masks_have_no_point_and_leave_the_scale_alone():
    mask = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -1e9)

    def forward(self, x):
        scores = self.w(x) @ x.transpose(-2, -1)
        return torch.softmax(scores + mask, -1) @ x

    model = Small(forward, w=nn.Linear(8, 8))
    flow, _, _ = run(model, SEQUENCE)
    assert operations(flow) == ["input", "linear", "matmul", "softmax", "matmul"]
    assert ("add", "mask") in [(s.operation, s.reason) for s in flow.skipped]

    def infinite(self, x):
        return torch.softmax((self.w(x) @ x.transpose(-2, -1)).masked_fill(mask < 0, -torch.inf) / 3, -1)

    with DataFlow(Small(infinite, w=model.w)) as flow:
        flow.activation = activation_quantizer(formats.get("FP134"))
        weights = flow.model(SEQUENCE)
    assert (weights[:, 0, 1:] == 0).all()
    assert len(weights[:, 2].unique()) > 1


def test_parameters_alone_embeddings_and_constants():
    def forward(self, tokens):
        positions = self.position(torch.arange(5))
        scaled = self.gain.exp() * 3
        return self.out(self.embed(tokens) + positions) * scaled

    model = Small(forward, embed=nn.Embedding(10, 8), position=nn.Embedding(5, 8), out=nn.Linear(8, 4))
    model.gain = nn.Parameter(torch.zeros(4))
    flow, plain, seen = run(model, torch.tensor([[1, 2, 3, 4, 5]]))
    assert operations(flow) == ["embedding", "add", "linear", "mul"]
    assert_same(plain, seen, True)
    normal = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    flow, plain, seen = run(normal, SEQUENCE)
    assert operations(flow) == ["input", "linear"]
    assert_same(plain, seen, False)


def test_checkpointing_computes_quantized_activations_again():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    plain_model = Small(lambda self, x: self.head(self.block(x)), block=block, head=nn.Linear(8, 4))
    saving = Small(
        lambda self, x: self.head(checkpoint(self.block, x, use_reentrant=False)), block=block, head=plain_model.head
    )
    results = []
    for model in (plain_model, saving):
        with DataFlow(model) as flow:
            flow.activation = activation_quantizer(formats.get("FP123"))
            flow.error = error_quantizer(formats.get("FP123"))
            total = scalar(model(SEQUENCE))
            results.append(flow.gradients(total, list(model.parameters())))
            assert operations(flow) == ["input", "linear", "tanh", "linear", "linear"]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_errors_are_quantized_once_after_a_fork():
    format = formats.get("FP123")

    def forward(self, x):
        y = self.w(x)
        return y.relu() + (-y).relu() * 4

    w = nn.Linear(8, 8, bias=False)
    model = Small(forward, w=w)
    with DataFlow(model) as flow:
        output = model(SEQUENCE)
        flow.error = error_quantizer(format)
        (found,) = flow.gradients(output.sum(), [w.weight])
    # The last point is the addition; its error of ones is exact. The error of y is 1 or -4, a fork of two branches.
    y = w(SEQUENCE)
    e = format.round(torch.where(y > 0, 1.0, -4.0))
    torch.testing.assert_close(found, torch.einsum("abi,abj->ij", e, SEQUENCE))


def test_several_backward_passes_over_one_graph_repeat_exactly():
    model = conv_net(True).eval()
    with DataFlow(model) as flow:
        total = scalar(model(IMAGES))

        def gradient(name):
            flow.error = error_quantizer(formats.get(name)) if name else None
            return flow.gradients(total, list(model.parameters()), keep=True)

        first = [gradient(name) for name in (None, "FP134", "INT6")]
        again = [gradient(name) for name in (None, "FP134", "INT6")]
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[1][0], first[2][0])
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_two_terms_at_inputs_and_last_points():
    model = nn.Linear(8, 4, bias=False)
    format = formats.get("FP123")
    with DataFlow(model) as flow:
        flow.activation = activation_quantizer(format, CURRENT)
        output = model(SEQUENCE)
        flow.error = error_quantizer(format, CURRENT)
        target = torch.linspace(-1, 1, 60).reshape(5, 3, 4)
        (found,) = flow.gradients((output * target).sum(), [model.weight])

    def twice(x):
        return format.round(x) + format.round(x - format.round(x))

    expected_output = format.round(F.linear(twice(SEQUENCE), model.weight))
    assert torch.equal(output.detach(), expected_output.detach())
    torch.testing.assert_close(found, torch.einsum("abi,abj->ij", twice(target), twice(SEQUENCE)))


def test_layers_kept_exact():
    model = conv_net(False).eval()
    with DataFlow(model, exact=["0", "9"]) as flow:
        flow.activation = activation_quantizer(formats.get("FP123"))
        model(IMAGES)
    assert [(p.layer, p.exact) for p in flow.points] == [
        ("", False),
        ("0", True),
        ("1", False),
        ("4", False),
        ("6", False),
        ("9", True),
    ]
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        DataFlow(model, exact=["conv9"])


def test_an_unknown_operation_gets_a_point_and_one_warning():
    model = Small(
        lambda self, x: torch.special.airy_ai(self.w(x)) + torch.special.i0e(torch.special.i0e(self.w(x))),
        w=nn.Linear(8, 8),
    )
    with DataFlow(model) as flow, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(SEQUENCE)
    assert operations(flow).count("special_i0e") == 2
    assert sum("special_i0e" in str(w.message) for w in caught) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_and_compile_is_unwrapped():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = nn.Sequential(nn.Linear(8, 8), torch.jit.trace(nn.Linear(8, 8), SEQUENCE))
    with pytest.raises(ValueError, match="module 1 is TorchScript"):
        DataFlow(scripted)
    model = nn.Linear(8, 8)
    assert DataFlow(torch.compile(model)).model is model


def test_nothing_is_left_behind():
    model = conv_net(False)
    model[1].eval()
    before = [module.training for module in model.modules()]
    workload = Workload("small", model, [(IMAGES, torch.tensor([0, 1]))], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    with Gradients(workload, workload.batches[0]):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())

    def failing(self, x):
        raise RuntimeError("broken inside")

    broken = Workload("broken", Small(failing, w=nn.Linear(8, 8)), [SEQUENCE], lambda m, b: m(b).sum())
    with (
        pytest.raises(ValueError, match="the loss of workload broken fails: RuntimeError: broken inside"),
        Gradients(broken, SEQUENCE),
    ):
        pass
    assert torch.overrides._get_current_function_mode_stack() == []


def lines_of(files, do, interrupt=None):
    """Lines of some files that `do()` carries out: their number; KeyboardInterrupt before one of them."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            count += 1
            if count == interrupt:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
    return count


def test_ctrl_c_at_any_line_is_ctrl_c_and_leaves_torch_as_it_was():
    """Torch's own stack of modes was found empty when it came after a mode was taken off."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), torch.ones(2, 3)

    flows = []

    def passes():
        flows.append(DataFlow(model))
        with flows[-1] as flow:
            loss = flow.model(x).sum()
            return flow.gradients(loss, list(model.parameters()))

    files = [dataflow.__file__, torch.overrides.__file__]
    expected, lines = passes(), lines_of(files, passes)
    assert lines > 100
    for line in range(1, lines + 1):
        with pytest.raises(KeyboardInterrupt):
            lines_of(files, passes, interrupt=line)
        assert torch._C._len_torch_function_stack() == 0, line
    # Only where it came as the flow had been entered or was about to be left, and `with` knew nothing of it.
    assert len(model._forward_hooks) <= 2
    for flow in reversed(flows):
        flow.__exit__()
    assert not model._forward_hooks
    assert all(torch.equal(a, b) for a, b in zip(passes(), expected, strict=True))


def test_flows_are_closed_in_any_order():
    """The second to be opened once put back what the first had changed, for good."""
    own = torch_checkpoint._checkpoint_without_reentrant_generator, torch_checkpoint.CheckpointFunction.apply
    first, second = DataFlow(nn.Linear(2, 2)), DataFlow(nn.Linear(2, 2))
    for flow in (first, second):
        flow.__enter__()
    assert torch_checkpoint._checkpoint_without_reentrant_generator is not own[0]
    first.__exit__()
    assert torch_checkpoint._checkpoint_without_reentrant_generator is not own[0]
    second.__exit__()
    assert torch_checkpoint._checkpoint_without_reentrant_generator is own[0]
    assert torch_checkpoint.CheckpointFunction.apply == own[1]


class TakesItsLoss(nn.Module):
    """Gives the loss beside the logits, as networks that are given labels do."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, x, labels):
        logits = self.head(x)
        return F.cross_entropy(logits, labels), logits


def test_the_loss_has_no_point_in_a_network_that_takes_it_itself():
    torch.manual_seed(0)
    model, labels = TakesItsLoss(), torch.tensor([0, 1, 2])
    batch = torch.randn(3, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with DataFlow(model) as flow:
            flow.activation = activation_quantizer(formats.get("FP134"), CURRENT)
            loss, logits = model(batch, labels)
    assert [point.operation for point in flow.points] == ["input", "linear"]
    assert flow.points[-1].last  # errors there get two terms
    assert [skipped.reason for skipped in flow.skipped] == ["is the loss"]
    assert loss == F.cross_entropy(logits, labels)  # of rounded logits, itself not rounded
