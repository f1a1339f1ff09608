"""Options that several commands share."""

from commands.options import split


def test_pairs_of_written_out_profiles_are_told_from_lists():
    profile = "profile:8:4x2,5x3,4x7,3,2,1"
    for names in (
        [f"FP134+{profile}", "INT8"],
        [f"{profile}+{profile}", f"FP143+{profile}"],
        [f"{profile}+INT8", profile],
    ):
        assert split(",".join(names)) == names
