"""§4.1: what LBM is compared with."""
