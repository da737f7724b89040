"""What no chapter reads: benchmark files, exports, calibration, the notebook runner and linter."""
