"""Post-training quantization: ranges, equalization, bias correction and AdaRound, for any workload and format
(docs/definitions/calibration.md section 1)."""

from training.calibration.adaround import AdaRound
from training.calibration.network import Network
from training.calibration.pipeline import quantize
from training.calibration.result import LayerLoss, PipelineStep, Quantized
from training.calibration.start import begin_from

__all__ = ["AdaRound", "LayerLoss", "Network", "PipelineStep", "Quantized", "begin_from", "quantize"]
