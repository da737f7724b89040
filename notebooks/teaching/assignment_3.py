"""Assignment 3, after chapters 3 to 5: check a text, judge it, choose one. Fill in the three functions.

python notebooks/teaching/check.py 3 my_copy_of_this_file.py
"""


def read_answer(text, true_ratio):
    """The direction that a chain of thought gives, -1, 0 or 1, or None where it must not be followed.

    It is followed only if it has exactly one <ratio>…</ratio> with a plain decimal number and nothing else in it,
    within 3 % of ``true_ratio``, and exactly one <answer>…</answer> with -1, 0 or 1 and nothing else in it. A tag that
    is opened or closed once too often, or never closed, is a reason not to follow, too.
    """
    raise NotImplementedError


def expectile_loss(u, tau):
    """Eq. 8: |tau - 1(u < 0)| u² of an array u."""
    raise NotImplementedError


def choose(relative_q):
    """Eq. 13: which text of a group is learned? ``relative_q`` is a list of N numbers, None where a text failed.

    The index of the largest, if it is positive; of equal ones the first; None where nothing is to be learned.
    """
    raise NotImplementedError
