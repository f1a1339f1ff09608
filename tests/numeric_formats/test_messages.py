"""What an exception says, in one line."""

from numeric_formats.messages import first_line, one_line, printable


def test_exceptions_in_one_line():
    several = ValueError("no  such\n\n thing\nat all")
    assert (one_line(several), first_line(several)) == ("no such thing at all", "no  such")
    for empty in (KeyboardInterrupt(), ValueError(""), ValueError("\nlater")):
        assert first_line(empty) == type(empty).__name__
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert one_line(ValueError("\nlater")) == "later"


def test_text_cannot_steer_a_terminal():
    assert printable("FP134 – 4x2, é") == "FP134 – 4x2, é"
    assert printable("a\x1b[31m\nb\r\x07\u202e\x9b") == r"a\x1b[31m\nb\r\x07\u202e\x9b"
