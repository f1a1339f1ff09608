"""From a name to a workload: a user's own file or module."""

import pytest

from workloads import load

MINE = """
import torch
from torch import nn
from workloads import Workload
import beside

def net():
    data = [(torch.randn(4, 3), torch.randn(4, 2))]
    return Workload("mine", nn.Linear(3, 2), data, lambda m, b: (m(b[0]) - b[1]).square().mean())

def other():
    return beside.VALUE
"""


def test_a_file_and_a_module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("VALUE = 3")
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert load(f"{tmp_path}/own_net.py:net").name == "mine"
    monkeypatch.chdir(tmp_path)
    assert load("own_net:net").source == "own_net:net"
    source = load("own_net.py:net").source
    assert source == f"{tmp_path}/own_net.py:net"
    monkeypatch.chdir("/")
    assert load(source).name == "mine"
    monkeypatch.chdir(tmp_path)
    for name, error, message in (
        ("own_net:other", TypeError, "returned int"),
        ("own_net:absent", ValueError, "has no function 'absent'; it defines net, other"),
        ("nowhere.at_all:f", ValueError, "cannot import nowhere"),
        ("nofile.py:f", ValueError, "there is no file nofile.py"),
        ("resnet81", ValueError, "did you mean resnet18"),
        ("vgg", ValueError, "Bundled: resnet18, resnet20, mobilenetv2"),
    ):
        with pytest.raises(error, match=message):
            load(name)


def test_what_a_file_of_ones_own_raises_is_said_with_its_line(tmp_path):
    file = tmp_path / "net.py"
    for content, message in (
        ("def net(:", "net.py, line 1: SyntaxError: invalid syntax"),
        ("import os\nimport torchh", "net.py, line 2: ModuleNotFoundError: No module named 'torchh'"),
        ("def net():\n    x = 1\n    return {}[x]", "net.py, line 3: KeyError: 1"),
        ("def net(x):\n    return 1", "net.py: TypeError: net.. missing 1 required positional argument: 'x'"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            load(f"{file}:net")
