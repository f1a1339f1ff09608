"""What a format is in hardware: test vectors and a C header, the lane that multiplies it, its gates."""
