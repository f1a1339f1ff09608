"""What NVFP4 is made of.

Sources: NVIDIA, "Pretraining Large Language Models with NVFP4", arXiv:2509.25149, section 2 and the appendix on
quantization; NVIDIA's technical blog, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference", 2025.
"""

NAME = "NVFP4"
BLOCK = 16
"""Neighbours along the last axis that share a block scale."""
ELEMENT, BLOCK_SCALE = "E2M1", "E4M3"
"""Standards (formats/tables/standards.py). The scale of the tensor is a float32 number."""
