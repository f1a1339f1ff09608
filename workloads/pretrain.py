"""Train a bundled network from scratch, as its weights in this repository were trained.

    python -m workloads.pretrain resnet18 --epochs 8 --output runs/resnet18
    python -m workloads.pretrain mobilenetv2 --epochs 8 --rate 0.5 --decay 1e-3 --output runs/mobilenetv2

Full Fashion-MNIST, SGD with Nesterov momentum and a one-cycle learning rate, random horizontal flips, forward and
backward in bfloat16 autocast (which only makes it faster: weights and optimizer are float32). Everything random comes from the
seed. A checkpoint is written after every epoch; the same command resumes from it. Prints the test accuracy that the
float16 weights reach, and writes them to `OUTPUT/weights.safetensors`.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save
from torch import Tensor, nn

from workloads import fashion_mnist
from workloads.files import write_atomically
from workloads.mobilenet import mobilenetv2
from workloads.resnet import resnet18, resnet20

NETWORKS = {"resnet18": resnet18, "resnet20": resnet20, "mobilenetv2": mobilenetv2}
BATCH = 128


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images (N, C, H, W) whose largest output is the label (N,); leaves the model in eval mode."""
    model.eval()
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return sum(right) / len(labels)


def to_float16(model: nn.Module) -> dict[str, Tensor]:
    """The state as it is bundled: floating tensors in float16, batch counters left out."""
    return {name: value.half().contiguous() for name, value in model.state_dict().items() if value.is_floating_point()}


def main(
    network: Annotated[str, typer.Argument(help="resnet18, resnet20 or mobilenetv2")],
    output: Annotated[Path, typer.Option(help="folder for the checkpoint and the weights")],
    epochs: Annotated[int, typer.Option(help="passes over the 60,000 images", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="decides initial weights, data order and flips")] = 0,
    rate: Annotated[float, typer.Option(help="largest learning rate")] = 0.1,
    decay: Annotated[float, typer.Option(help="weight decay; depthwise filters have none")] = 5e-4,
    bfloat16: Annotated[bool, typer.Option(help="autocast to bfloat16")] = True,
) -> None:
    """Train NETWORK on full Fashion-MNIST and write its float16 weights."""
    if network not in NETWORKS:
        raise typer.BadParameter(f"{network!r} is not one of {', '.join(NETWORKS)}")
    data = fashion_mnist.read_full()
    images, labels = fashion_mnist.to_input(data["train_images"]), fashion_mnist.to_target(data["train_labels"])
    test = fashion_mnist.to_input(data["test_images"]), fashion_mnist.to_target(data["test_labels"])
    torch.manual_seed(seed)
    model = NETWORKS[network]()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Depthwise filters are not decayed (A. Howard et al., "MobileNets", 2017, section 3).
    depthwise = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    groups = [[p for p in model.parameters() if (id(p) in depthwise) is kind] for kind in (False, True)]
    optimizer = torch.optim.SGD(
        [{"params": group, "weight_decay": 0.0 if k else decay} for k, group in enumerate(groups) if group],
        lr=rate,
        momentum=0.9,
        nesterov=True,
    )
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps, pct_start=0.25)
    checkpoint = output / "checkpoint.pt"
    settings = {"network": network, "epochs": epochs, "seed": seed, "rate": rate, "decay": decay, "bfloat16": bfloat16}
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        if state["settings"] != settings:
            raise typer.BadParameter(f"{checkpoint} was made with {state['settings']}, not {settings}")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]
    for epoch in range(first, epochs):
        began, total = time.monotonic(), 0.0
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = torch.randperm(len(images), generator=generator)
        model.train()
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            x = images[chosen]
            flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
            x = torch.where(flip, x.flip(3), x).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = F.cross_entropy(model(x).float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            if step % 50 == 49:
                spent = time.monotonic() - began
                print(f"epoch {epoch + 1} step {step + 1}/{steps} loss {total / (step + 1):.4f} {spent:.0f} s", flush=True)
        state = {
            "settings": settings,
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        write_atomically(checkpoint, lambda file, state=state: torch.save(state, file))  # type: ignore[misc]
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, test accuracy {accuracy(model, *test):.4f}", flush=True)
    weights = to_float16(model)
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    reached = accuracy(model, *test)
    metadata = {"seed": str(seed), "epochs": str(epochs), "test_accuracy": f"{reached:.4f}"}
    content = save(weights, metadata=metadata)
    write_atomically(output / "weights.safetensors", lambda file: file.write(content))
    print(f"{network}: test accuracy {reached:.4f} with float16 weights ({output / 'weights.safetensors'})")


if __name__ == "__main__":
    typer.run(main)
