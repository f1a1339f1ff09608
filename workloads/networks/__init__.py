"""The architectures of the bundled workloads."""
