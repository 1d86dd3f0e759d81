"""What others offer and biomask can fetch, when asked: weights to begin with, and data sets to try."""

from biomask.public.catalogue import OFFERS, Offer, RemoteFile, offer
from biomask.public.get import Got, get

__all__ = ["OFFERS", "Got", "Offer", "RemoteFile", "get", "offer"]
