"""Reports: tables, plots and result files. Takes results; computes nothing."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor", "search", "training")
