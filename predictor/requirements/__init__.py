"""What measuring a network takes: memory, multiply-accumulates and time."""
