from __future__ import annotations

import enum


class Provider(enum.StrEnum):
    """The names of providers that rules mention; `providers.engines` has all of them.

    A message's `route` has the same names in REST and in the database.
    """

    OFFICIAL = "official"
    WWEBJS = "wwebjs"
    BAILEYS = "baileys"
