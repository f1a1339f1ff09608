"""What the tests of conformance look for in checks."""


def found(checks):
    """Subject and category of every mismatch."""
    return {(check.subject, check.category) for check in checks if check.mismatches}
