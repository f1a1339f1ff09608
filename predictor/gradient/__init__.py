"""One weight gradient: how it is computed with what rounded, and compared with that of full precision."""
