"""§4: every bidder through the same replay, with intervals."""
