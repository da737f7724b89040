"""§3.2: LBM-Act, one transformer that reads words and numbers through a dual embedding."""
