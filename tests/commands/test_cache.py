"""cache info and cache clear."""

import json
import re

from predictor.effects import Effect
from predictor.measuring.store import Store
from predictor.measuring.validity import Context
from tests.command import run
from tests.predictor.measuring.entries import stored


def test_cache(folder, monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", str(folder / "cache"))
    path = folder / "cache" / "measurements.sqlite"
    context = Context("w" * 64, "n", "l", "p", "torch 2", "cpu", "contiguous", 3)
    with Store.open() as store:
        store.put(context, "batch", [(name, Effect.E, stored(1, ("a",))) for name in ("f", "g")])
    info = json.loads(run("cache", "info", "--json", cwd=folder).stdout)
    assert (info["path"], info["measurements"], info["formats"], info["minibatches"]) == (str(path), 2, 2, 1)
    assert (info["contexts"][0]["threads"], info["contexts"][0]["measurements"]) == (3, 2)
    text = run("cache", "info", cwd=folder).stdout
    assert "2 measurements of 2 formats on 1 mini-batch;" in text
    assert re.search(r"w{12} +torch 2 +cpu +3 +2", text)
    refused = run("cache", "clear", cwd=folder, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "say --yes" in refused.stderr
    assert "forgot 2 measurements" in run("cache", "clear", "--yes", cwd=folder).stdout
    assert json.loads(run("cache", "info", "--json", cwd=folder).stdout)["measurements"] == 0
    path.write_text("damaged" * 1000)
    done = run("cache", "info", cwd=folder)
    assert "0 measurements" in done.stdout
    assert "1 older or damaged files set aside" in done.stdout
    assert done.stderr.startswith("warning: the store ")


def test_a_damaged_store_is_looked_at_and_emptied(folder, monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", str(folder / "cache"))
    path = folder / "cache" / "measurements.sqlite"
    for command, said in ((("info",), "0 measurements"), (("clear", "--yes"), "forgot 0 measurements")):
        with Store.open() as store:
            store.put(Context(*"wnlptdm", 1), "b", [("f", Effect.E, stored(1, ("a",)))])
        content = bytearray(path.read_bytes())
        content[content.index(b"CREATE TABLE names") + len(b"CREATE TABLE ")] ^= 0x80
        path.write_bytes(content)
        done = run("cache", *command, cwd=folder)
        assert said in done.stdout
        assert done.stderr.startswith(f"warning: the store {path} is damaged (")
        assert done.stderr.count("\n") == 1
    assert not list(path.parent.glob("*set-aside*"))
