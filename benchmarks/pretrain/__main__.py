"""Train a bundled network from scratch, as its weights in this repository were trained.

    python -m benchmarks.pretrain resnet18 --output runs/resnet18

As benchmarks/pretrain/pretrainings.py says, on the whole data set, with a one-cycle learning rate, forward and backward
in bfloat16 autocast (which only makes it faster: weights and optimizer are float32). Everything random comes from the
seed. A checkpoint is written after every epoch; the same command resumes from it. Prints the test metric that the
float16 weights reach, and writes them to `OUTPUT/weights.safetensors`.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save
from torch import Tensor, nn

from benchmarks.pretrain.pretrainings import PRETRAININGS
from numeric_formats.files import check_same, write_atomically


def to_float16(model: nn.Module) -> dict[str, Tensor]:
    """The state as it is bundled: floating tensors in float16, batch counters left out."""
    return {name: value.half().contiguous() for name, value in model.state_dict().items() if value.is_floating_point()}


def main(
    network: Annotated[str, typer.Argument(help=", ".join(PRETRAININGS))],
    output: Annotated[Path, typer.Option(help="folder for the checkpoint and the weights")],
    epochs: Annotated[
        int | None, typer.Option(help="passes over the data; by default the network's own", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="decides initial weights and all that is drawn of the data")] = 0,
    rate: Annotated[float | None, typer.Option(help="largest learning rate; by default the network's own")] = None,
    bfloat16: Annotated[bool, typer.Option(help="autocast to bfloat16")] = True,
) -> None:
    """Train NETWORK on the whole of its data and write its float16 weights."""
    if network not in PRETRAININGS:
        raise typer.BadParameter(f"{network!r} is not one of {', '.join(PRETRAININGS)}")
    chosen = PRETRAININGS[network]
    epochs, rate = epochs or chosen.epochs, chosen.rate if rate is None else rate
    data = chosen.data()
    torch.manual_seed(seed)
    model = chosen.network()
    optimizer = chosen.optimizer(model, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * data.steps, pct_start=0.25)
    checkpoint = output / "checkpoint.pt"
    settings = {"network": network, "epochs": epochs, "seed": seed, "rate": rate, "bfloat16": bfloat16}
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        try:
            check_same(checkpoint, state["settings"], settings)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]

    def metric() -> float:
        model.eval()
        with torch.no_grad():
            return data.metric(model)

    for epoch in range(first, epochs):
        began, total = time.monotonic(), 0.0
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        model.train()
        for step, batch in enumerate(data.epoch(generator)):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = chosen.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            if step % 50 == 49:
                spent = time.monotonic() - began
                print(
                    f"epoch {epoch + 1} step {step + 1}/{data.steps} loss {total / (step + 1):.4f} {spent:.0f} s",
                    flush=True,
                )
        state = {
            "settings": settings,
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        write_atomically(checkpoint, lambda file, state=state: torch.save(state, file))  # type: ignore[misc]
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / data.steps:.4f}, test {chosen.measure} {metric():.4f}",
            flush=True,
        )
    weights = to_float16(model)
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    reached = metric()
    metadata = {"seed": str(seed), "epochs": str(epochs), f"test_{chosen.measure.replace(' ', '_')}": f"{reached:.4f}"}
    content = save(weights, metadata=metadata)
    write_atomically(output / "weights.safetensors", content)
    print(f"{network}: test {chosen.measure} {reached:.4f} with float16 weights ({output / 'weights.safetensors'})")


if __name__ == "__main__":
    typer.run(main)
