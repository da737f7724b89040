"""What no chapter reads: benchmark files, exports, the notebook runner."""
