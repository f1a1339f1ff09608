"""The workloads that come with the package: weights, data, and the networks that they belong to."""
