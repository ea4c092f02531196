"""Messages that failed for good, looked at and moved back to where they came from; what others reject, counted.

letters   one dead letter in words        ┐
groups    many of them by what they share ├ pure
places    which queue is meant            ┘
reader    takes messages without settling them
redrive   one run that moves them back
desk      what the endpoints ask for
router    counts what the broker was told to reject, for queues with a retry
"""

from reconciler.deadletters.desk import Desk
from reconciler.deadletters.redrive import Order, Progress

__all__ = ["Desk", "Order", "Progress"]
