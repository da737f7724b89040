"""§2 and A.1: impressions, the auction, the market of 48 bidders, the offline replay, the metrics."""
