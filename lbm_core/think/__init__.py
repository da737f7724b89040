"""§3.3: LBM-Think, from the prompt of Fig. 4 to GQPO (Eq. 10-14)."""
