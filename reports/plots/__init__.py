"""Plots of rankings, attributions, precision and training, in one style that colour-blind readers can tell apart."""

from reports.plots.draw import Kind, default_target, draw, kind_of
from reports.plots.layers import KINDS, attribution, layers
from reports.plots.profiles import histograms, profiles, profiles_of, synthesized
from reports.plots.rankings import error_against_activation, pareto_front, top
from reports.plots.style import COLOURS, ENDINGS, OTHER, STYLE, save
from reports.plots.training import flips, loss_against_angle

__all__ = [
    "COLOURS",
    "ENDINGS",
    "KINDS",
    "OTHER",
    "STYLE",
    "Kind",
    "attribution",
    "default_target",
    "draw",
    "error_against_activation",
    "flips",
    "histograms",
    "kind_of",
    "layers",
    "loss_against_angle",
    "pareto_front",
    "profiles",
    "profiles_of",
    "save",
    "synthesized",
    "top",
]
