"""Assignment 1, after chapter 1: one auction, one price, one score. Fill in the four functions; NumPy is enough.

python notebooks/teaching/check.py 1 my_copy_of_this_file.py
"""


def bids(alpha, pvalues):
    """Eq. 2 with one constraint: what to bid for impressions of predicted value ``pvalues`` (an array)."""
    raise NotImplementedError


def winners_and_prices(bids):
    """Three slots. ``bids`` has one number per advertiser, at least four, all different.

    Return (winners, prices): the advertisers in slots 1, 2 and 3, and what each pays if its slot is seen, the next
    lower bid. Both as lists or arrays of three.
    """
    raise NotImplementedError


def average_income(prices):
    """What the auctioneer earns on average: slot 1 is always seen, slot 2 with 0.8, slot 3 with 0.6 if 2 was."""
    raise NotImplementedError


def score(conversions, cost, cpa_target):
    """Conversions, times min(target / realised CPA, 1) squared. Numbers, not arrays; nothing bought scores 0."""
    raise NotImplementedError
