"""A small interpreter of the Verilog that lanes are written in."""

import re

OPERATORS = {
    "*": (7, lambda x, y: x * y),
    "+": (6, lambda x, y: x + y),
    "-": (6, lambda x, y: x - y),
    "<<": (5, lambda x, y: x << y),
    ">=": (4, lambda x, y: int(x >= y)),
    "==": (3, lambda x, y: int(x == y)),
    "!=": (3, lambda x, y: int(x != y)),
    "&": (2, lambda x, y: x & y),
    "^": (1, lambda x, y: x ^ y),
    "|": (0.5, lambda x, y: x | y),
}


class Verilog:
    """A generated module without instances. Numbers are unsigned; an assignment cuts them to its width. What a register
    gets is called NAME_next."""

    def __init__(self, text, module):
        found = re.search(rf"module {module}\((.*?)\);\n(.*?)endmodule", text, re.S)
        self.widths = {}
        for width, name in re.findall(r"(?:input|output) (?:reg )?(?:signed )?(?:\[(\d+):0\] )?(\w+)", found[1]):
            self.widths[name] = self.widths[f"{name}_next"] = int(width or 0) + 1
        self.assignments = []
        for given in found[2].strip().splitlines():
            line = given.strip().removeprefix("always @(posedge clock)").strip()
            if line in ("begin", "end"):
                continue
            if declared := re.fullmatch(r"reg \[(\d+):0\] (\w+);", line):
                self.widths[declared[2]] = self.widths[f"{declared[2]}_next"] = int(declared[1]) + 1
                continue
            kind, width, name, bit, becomes, value = re.fullmatch(
                r"(?:(wire|assign) )?(?:\[(\d+):0\] )?(\w+)(?:\[(\d+)\])? (<?=) (.*);", line
            ).groups()
            assert (kind is None) == (becomes == "<=")
            if kind == "wire":
                self.widths[name] = int(width or 0) + 1
            tokens = re.findall(r"\d+'d\d+|\d+'h[0-9a-f]+|\w+|<<|>=|==|!=|[^\s\w]", value)
            self.assignments.append((name if kind else f"{name}_next", bit, tokens))

    def __call__(self, **inputs):
        self.values = dict(inputs)
        for name, bit, tokens in self.assignments:
            self.tokens = list(tokens)
            value = self.choice()[0]
            if bit is None:
                self.values[name] = value & ((1 << self.widths[name]) - 1)
            else:
                self.values[name] = self.values.get(name, 0) | (value & 1) << int(bit)
            assert not self.tokens, (name, tokens)
        return self.values

    def next(self, expected=None):
        token = self.tokens.pop(0)
        assert expected in (None, token)
        return token

    def peek(self):
        return self.tokens[0] if self.tokens else ""

    def choice(self):
        value = self.binary(0.5)
        if self.peek() != "?":
            return value
        self.next("?")
        yes = self.choice()
        self.next(":")
        no = self.choice()
        return (yes if value[0] else no)[0], max(yes[1], no[1])

    def binary(self, lowest):
        left = self.unary()
        while OPERATORS.get(self.peek(), (0,))[0] >= lowest:
            operator = self.next()
            precedence, function = OPERATORS[operator]
            right = self.binary(precedence + 0.5)
            left = function(left[0], right[0]), 1 if operator in (">=", "==", "!=") else max(left[1], right[1])
        return left

    def unary(self):
        token = self.next()
        if token == "~":
            value, width = self.unary()
            return ~value & ((1 << width) - 1), width
        if token == "(":
            value = self.choice()
            self.next(")")
            return value
        if token == "{":
            return self.joined()
        if "'d" in token:
            width, number = token.split("'d")
            return int(number), int(width)
        if "'h" in token:
            width, number = token.split("'h")
            return int(number, 16), int(width)
        value, width = self.values[token], self.widths[token]
        if self.peek() != "[":
            return value, width
        self.next("[")
        chosen = self.next()
        high = low = int(chosen) if chosen.isdigit() else self.values[chosen]
        if self.peek() == ":":
            self.next(":")
            low = int(self.next())
        self.next("]")
        assert width > high >= low, token
        return value >> low & ((1 << (high - low + 1)) - 1), high - low + 1

    def joined(self):
        times = int(self.next()) if self.peek().isdigit() else 1
        if self.peek() == "{" and times > 1:
            self.next("{")
            value, width = self.joined()
            self.next("}")
            return sum(value << (i * width) for i in range(times)), times * width
        value, width = 0, 0
        while True:
            part, size = self.choice()
            value, width = value << size | part, width + size
            if self.next() == "}":
                return value, width
