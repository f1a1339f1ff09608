"""quantize."""

import json

import pytest
from safetensors.torch import load_file


@pytest.mark.slow
def test_quantize_tells_steps_and_layers_and_exports(folder, inside):
    quick = ("quantize", "-m", "mine.py:net", "-W", "INT4", "--adaround-iterations", "4", "--minibatches", "1")
    code, out, _ = inside(*quick, "-o", "run", "--export", "net.safetensors")
    assert code == 0
    assert "weights by AdaRound" in out
    assert "the costliest first" in out
    assert out.splitlines()[-2:] == [
        "wrote run",
        "wrote net.safetensors; loaded again it differs from evaluation by 0 of the outputs' size",
    ]
    assert any(key.endswith(".codes") for key in load_file(folder / "net.safetensors"))
    code, out, _ = inside(*quick, "-o", "run", "--resume", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((folder / "run" / "result.json").read_text())
    for more, expected in (
        (
            ("-o", "run"),
            "error: run holds an earlier run; go on with resume (--resume) or replace it with force (--force)",
        ),
        (
            ("-o", "run", "--resume", "--seed", "1"),
            "error: run/settings.json was made with seed 0, not 1; give the same, or start with --force",
        ),
        (("--no-fold",), "error: without folding there is nothing to equalize or absorb; switch those off too"),
        (
            ("-W", "NVFP4"),
            "error: format NVFP4 has no single scale for a clipping threshold to set; "
            "allowed are formats with one a tensor",
        ),
    ):
        code, _, errors = inside(*quick, *more)
        assert (code, errors) == (2, [expected])
