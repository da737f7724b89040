"""Published numbers, tables and figures. Imports neither torch nor transformers."""
