"""What commands print."""

import re

from rich.console import Console

from commands.printing import say
from reports.tables.layout import plain


def test_names_are_printed_as_they_are(capsys):
    line = "hf:llama: [bold]3[/bold] :smile: " + "x" * 300
    say(line)
    say(plain("hf:llama:7b [0]", [("[a] :llama:", "left")], [["hf:llama:"], ["[red]layers[0]"], ["[/]"]]))
    out = capsys.readouterr().out
    assert out.splitlines()[0] == line
    for text in ("hf:llama:7b [0]", "[a] :llama:", "hf:llama:", "[red]layers[0]", "[/]"):
        assert text in out


def test_a_table_keeps_its_width_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    say(plain(None, [("a", "left"), ("b", "left")], [["x" * 170, "y" * 380]]))
    assert f"{'x' * 170}   {'y' * 380}" in capsys.readouterr().out


def test_a_table_wider_than_the_terminal_is_cut_between_columns(capsys, monkeypatch):
    """Each piece says which row is which, and every cell is whole."""
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", "48")
    headers = [("rank", "right"), ("name", "left"), ("none", "right"), *[(f"of {k}", "right") for k in range(4)]]
    say(plain(None, headers, [["1", "a", "", *["x" * 12] * 4], ["22", "bb", "", *["y" * 12] * 4]], ruled=[0]))
    printed = [re.sub(r"\x1b\[[0-9;]*m", "", line).split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in printed if line[:1] == ["rank"]] == [
        ["rank", "name", "of", "0", "of", "1"],
        ["rank", "name", "of", "2", "of", "3"],
    ]
    assert printed.count(["1", "a", "x" * 12, "x" * 12]) == printed.count(["22", "bb", "y" * 12, "y" * 12]) == 2


def test_rows_and_rules_stand_where_they_should(capsys):
    rows = [["a", "1"], ["", "22"], ["ccc", ""], ["", ""], ["é", "5"]]
    say(plain(None, [("b", "left"), ("of", "right")], rows, ruled=[1, 4]))
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == ["", " b     of", f" {'─' * 8}", " a      1", "       22", "", " ccc", "", " é      5", ""]


def test_nothing_that_is_printed_steers_the_terminal(capsys):
    say("a line\nand \x1b[31manother\r", plain("title\x07", [("head\x1b]", "left")], [["\x1b[2Jcell"], ["two\nlines"]]))
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\r")
    assert "a line\nand \\x1b[31manother\\r" in out
    assert "two\\nlines" in out
