"""What a user got wrong is said in one line."""

import pytest

from tests.command import process


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_two(folder, inside):
    (folder / "there.csv").write_text("x\n")
    (folder / "file").write_text("")
    cases = [
        (("rank", "-m", "mine.py:net", "-f", "FP13"), "unknown format 'FP13'; did you mean FP143, FP134"),
        (("show", "FP999"), "unknown format 'FP999'"),
        (("rank", "-m", "resnet81"), "unknown model 'resnet81'; did you mean resnet18"),
        (
            ("rank", "-m", "mine.py:absent"),
            "has no function 'absent'; it defines make, net, damaged, endless, number, full_disk, other, flat",
        ),
        (("rank", "-m", "mine.py:number"), "returned int"),
        (("rank", "-m", "nofile.py:net"), "there is no file nofile.py"),
        (("rank", "-m", "mine.py:net", "-o", "there.csv"), "output there.csv exists; use --force"),
        (("rank", "-m", "mine.py:net", "-o", "file/r.csv"), "cannot be written"),
        (("rank", "-m", "mine.py:net", "-o", "r.txt"), "must end in .csv, .json, .parquet"),
        (("rank", "-m", "mine.py:net", "--minibatches", "0"), "0 mini-batches: at least 1"),
        (("rank", "-m", "mine.py:net", "--minibatches", "7"), "7 mini-batches were asked for; workload mine has 3"),
        (("rank", "-m", "mine.py:net", "--batch-size", "4"), "ready made"),
        (("rank", "-m", "mine.py:damaged"), "the loss of workload mine is nan in full precision"),
        (("rank", "-m", "mine.py:flat"), "the full-precision gradient is zero on a mini-batch"),
        (
            ("rank", "-m", "mine.py:net", "-m", "mine.py:other", "--minibatches", "3"),
            "3 mini-batches were asked for; workload other has 2",
        ),
        (
            ("rank", "-m", "mine.py:net", "--modle", "x"),
            "No such option: --modle (Possible options: --model, --time); see formats rank --help",
        ),
        (("rank",), "Missing option '--model' / '-m'; see formats rank --help"),
        (("show", "FP134", "--top", "x"), "Invalid value for '--top'"),
        (("shwo",), "No such command 'shwo'"),
        (
            ("train", "-m", "resnet20", "--epochs", "1", "--batch-size", "20000"),
            "workload resnet20 has no mini-batches of 20000",
        ),
        (("train", "-m", "mine.py:net", "--epochs", "1", "-o", "file/run"), "file/run: Not a directory"),
        (("rank", "-m", "mine.py:net", "--effects", "E,Q"), "effect 'Q': allowed are E, A, AE"),
        (("rank", "-m", "mine.py:net", "--bits", "5"), "5 bits: the catalogue has 8, 7, 6"),
        (("list", "--family", "posit"), "the catalogue has INT, FP, tapered, BM"),
        (("list", "--standards", "--bits", "8"), "--standards lists all standards"),
        (("show", "NVFP4", "--top", "1"), "the values of NVFP4 are shown at top exponent 2 only"),
        (("plot", "none.csv"), "there is no result file none.csv"),
        (("plot", "there.csv"), "has no column 'name'"),
        (("measure", "-m", "mine.py:net", "-f", ","), "no format was given"),
        (("attribute", "-m", "mine.py:net", "-f", "FP134", "--plot", "why.gif"), "must end in .png, .svg, .pdf"),
        (("plot", "there.csv", "none.csv"), "there is no result file none.csv"),
        (("plot", "there.csv", "there.csv"), "2 results, of which there.csv is no folder"),
        (("plot", "."), "holds no settings.json; a folder is needed"),
        (("rank", "-m", "mine.py:net", "--sweep", "width=8"), "sweep 'width=8': an axis is headroom="),
        (("search", "-m", "mine.py:net", "--headroom", "a"), "--headroom 'a': whole numbers"),
        (
            ("search", "-m", "mine.py:net", "--average-bits", "3"),
            "an average of 3.0 bits: the narrowest allowed format has 4",
        ),
        (("rank", "-m", "mine.py:net", "--device", "cuda:99"), "device 'cuda:99': torch "),
        (("measure", "-m", "mine.py:net", "-f", "FP134", "--device", "gpu"), "device 'gpu': torch "),
        (("search", "-m", "mine.py:net", "--device", "gpu"), "device 'gpu': torch "),
        (("rank", "-m", "mine.py:net", "--workers", "0"), "0 workers: at least 1"),
        (("rank", "-m", "mine.py:net", "--workers", "2", "--cluster", "auto"), "give one of the two"),
        (("train", "-m", "mine.py:net", "--epochs", "1", "--export", "net.onnx"), "--export is for --method"),
        (
            ("train", "-m", "mine.py:net", "--epochs", "1", "--method", "lsq", "--export", "net.pt"),
            "names that end in .safetensors or .onnx",
        ),
        (("fit", "there.csv"), "tensors are read from .npz, .npy, .safetensors"),
    ]
    for arguments, message in cases:
        code, _, errors = inside(*arguments)
        assert (code, len(errors)) == (2, 1), (arguments, errors)
        assert message in errors[0], (arguments, errors)
    # As a process of its own does it.
    done = process(*cases[0][0], cwd=folder, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert cases[0][1] in done.stderr
    assert (folder / "there.csv").read_text() == "x\n"
    assert not (folder / "r.txt").exists()
