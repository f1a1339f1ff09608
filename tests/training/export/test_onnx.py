"""Networks trained with methods, as ONNX: onnxruntime computes what evaluation computes."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.training import small
from training import train
from training.export.codes import check_export, export_to
from training.methods import (
    LSQ,
    SLB,
    Compensation,
    DistributionAdaptiveInt8,
    LSQPlus,
    Octo,
    UnifiedInt8,
    combine,
    quantized,
)

EXPORTED = {
    "lsq W4A4": (LSQ(), {"INT4", "INT8"}, 1e-6),
    "lsq W8A8, a step a channel": (LSQ(weight_bits=8, activation_bits=8, per_channel=True), {"INT8"}, 1e-6),
    "lsq W3A3": (LSQ(weight_bits=3, activation_bits=3), {"INT4", "INT8"}, 1e-6),
    "lsq+ W2A2": (LSQPlus(weight_bits=2, activation_bits=2), {"INT4", "INT8"}, 1e-6),
    "dai8": (DistributionAdaptiveInt8(), {"INT8"}, 1e-6),
    "ui8 in INT4": (UnifiedInt8(format="INT4", activation_threshold="ema"), {"INT4"}, 1e-6),
    "octo": (Octo(), {"INT8"}, 1e-6),
    "lsq+ui8+lac": (combine([LSQ(activations="signed"), UnifiedInt8(), Compensation()]), {"INT4", "INT8"}, 1e-6),
}


def onnxruntime_of(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x.numpy()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_onnxruntime_predicts_the_same(tmp_path, name):
    method, types, tolerance = EXPORTED[name]
    workload, path = small.workload(), tmp_path / "net.onnx"
    found = train(workload, method=method, epochs=2, rate=0.05)
    export_to(path, workload, found.model, found.method_state)
    given = onnx.load(path)
    onnx.checker.check_model(given)
    run = onnxruntime_of(path)
    # Any number of examples; a method that scales by a tensor's own range sees another range then.
    for count in (1, 7, 512):
        x, _ = small.images(count, 5)
        with quantized(found.model, found.method_state):
            expected = found.model(x).detach().numpy()
        got = run(x)
        assert np.linalg.norm(got - expected) <= tolerance * np.linalg.norm(expected)
        assert (got.argmax(1) == expected.argmax(1)).all()
    # Every tensor of the file is used; of weights the codes alone are there.
    used = {name for node in given.graph.node for name in node.input}
    assert {tensor.name for tensor in given.graph.initializer} <= used
    shapes = [
        tuple(p.shape) for p in found.model.parameters() if p.ndim > 2
    ]  # of convolutions, which all methods quantize
    assert not [t for t in given.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and tuple(t.dims) in shapes]
    # The weights are integers of as few bits as they need, and nothing of them is left in float32.
    operations = [node.op_type for node in given.graph.node]
    assert operations.count("Conv") == 2
    weights = {node.output[0]: node for node in given.graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in given.graph.node if node.op_type == "Conv"]
    held = {tensor.name: tensor for tensor in given.graph.initializer}
    kinds = {kind: onnx.TensorProto.DataType.Value(kind) for kind in ("INT4", "INT8")}
    found_types = set()
    for node in products:
        codes = held[weights[node.input[1]].input[0]]
        assert codes.data_type in kinds.values()
        found_types.add(next(kind for kind, value in kinds.items() if value == codes.data_type))
    assert found_types == types


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            Octo(format="FP134"),
            "ONNX has no FP134; INT8 and INT4 can be exported to it, and any format to .safetensors",
        ),
        (SLB(), "ONNX has no codes of a table of values"),
        (Octo(clip_output=True), "has a clipped output"),
        (DistributionAdaptiveInt8(format="INT6"), "ONNX has no INT6"),
        (combine([SLB(activations=True), UnifiedInt8()]), "ONNX has no codes of a table of values"),
    ],
)
def test_what_onnx_has_no_integers_for_is_refused(tmp_path, method, message):
    workload, path = small.workload(1), tmp_path / "net.onnx"
    found = train(workload, method=method, epochs=1)
    with pytest.raises(ValueError, match=message):
        export_to(path, workload, found.model, found.method_state)
    assert not path.exists()


def test_names_are_checked_before_a_training(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"export net.pt: allowed are names that end in .safetensors or .onnx"):
        check_export(tmp_path.relative_to(tmp_path) / "net.pt")
    monkeypatch.setattr("training.export.codes.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="onnxscript is not installed; pip install"):
        check_export(tmp_path / "net.onnx")
    check_export(tmp_path / "net.safetensors")
