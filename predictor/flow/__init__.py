"""The data flow of a network: where it is quantized, and how."""
