"""§3.3: the transformer critic trained offline by IQL (Eq. 8-9, Table 9)."""
