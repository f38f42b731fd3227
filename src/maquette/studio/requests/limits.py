"""How much a request, a client and the queue may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request, one client and the queue may take."""

    pixels: int = 1024 * 1024  # of each picture that is made
    steps: int = 150
    count: int = 8  # pictures of a request
    layers: int = 6
    prompt: int = 4000  # characters
    picture_pixels: int = 24_000_000  # of each picture that is given
    picture_bytes: int = 20 * 2**20
    request_bytes: int = 48 * 2**20
    waiting: int = 32  # requests in the queue
    per_client: int = 4  # of these from one client, with the one that is being made
    queue_bytes: int = 2**29  # of the pictures in it
    detecting: int = 8  # maps that are detected, or wait to be
    together: int = 8  # pictures that are made at once
    together_pixels: int = 2**19  # of them all: larger pictures fill the processor by themselves
    pictures: int = 500  # that a session keeps
    uploads: int = 64  # files of a session
