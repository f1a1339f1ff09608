"""Post-training quantization: ranges, equalization, bias correction and AdaRound, for any workload and format
(docs/definitions/calibration.md section 1)."""

from training.calibration.adaround import AdaRound
from training.calibration.network import Network
from training.calibration.pipeline import At, LayerLoss, Quantized, Step, quantize
from training.calibration.start import begin_from

__all__ = ["AdaRound", "At", "LayerLoss", "Network", "Quantized", "Step", "begin_from", "quantize"]
