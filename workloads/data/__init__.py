"""Data sets, bundled or found on this machine or at their public address, as mini-batches."""
