"""bench emulator and bench gradient."""

import re

from tests.command import run


def test_emulator(folder):
    out = run("bench", "emulator", "--elements", "1024", "--repeats", "1", cwd=folder).stdout
    assert "rounding 1024 float32 to 8 bits, median of 1" in out
    assert re.search(r"what +threads +ns an element +x copy +GB/s", out)
    assert re.search(r"FP134, T known, torch +1 +\d+\.\d{3} +\d+\.\d\d +\d+\.\d", out)
    for name in ("MXFP4", "BM43", "NF4"):
        done = run("bench", "emulator", "--elements", "1024", "--format", name, cwd=folder, check=False)
        assert done.returncode == 2
        assert done.stderr == f"error: format {name}: one with a profile and a scale for a whole tensor is timed\n"


def test_gradient(folder):
    (folder / "mine.py").write_text((folder / "mine.py").read_text() + SIZED)
    out = run("bench", "gradient", "-m", "mine.py:sized", "--batch-size", "4", "--repeats", "1", cwd=folder).stdout
    assert "mine.py:sized, batch 4, median of 1" in out
    assert re.search(r"full precision +\d+\.\d{3} +1\.00", out)
    assert re.search(r"FP134 \(AE\), 3 points +\d+\.\d{3} +\d+\.\d\d", out)


SIZED = """

def sized():
    made = make()
    batches = lambda size: [(torch.randn(size, 1, 4, 4), torch.randint(0, 4, (size,)))]
    return Workload("sized", made.model, batches, made.loss)
"""
