"""Topics of sites: the filter to subscribe to, and which site a message's topic names. Pure."""

from __future__ import annotations

from bms_ingest.settings_types import SITE_ID_PLACE, check_share_group, check_topic_template

LARGEST_SITE_ID = 2**63 - 1
"""PostgreSQL's bigint."""
_MOST_DIGITS = len(str(LARGEST_SITE_ID))


class TopicTemplate:
    """A topic such as `bms/sites/{site_id}/telemetry`, in which one whole level is the site's number.

    A site id is a positive decimal number without sign, blanks or leading zeros, so that every site has
    exactly one topic.

    Raises:
        ValueError: the template does not hold `{site_id}` exactly once as a whole level, or holds a wildcard.
    """

    def __init__(self, template: str) -> None:
        self.template = check_topic_template(template)
        self._before, _, self._behind = template.partition(SITE_ID_PLACE)

    def __repr__(self) -> str:
        return f"TopicTemplate({self.template!r})"

    def filter(self, share_group: str | None = None) -> str:
        """Return the topic filter that matches every site, shared with a group if one is given.

        Raises:
            ValueError: the group holds / + or #.
        """
        every_site = f"{self._before}+{self._behind}"
        return every_site if share_group is None else f"$share/{check_share_group(share_group)}/{every_site}"

    def topic(self, site_id: int) -> str:
        """Return the topic of one site.

        Raises:
            ValueError: no site can have this number.
        """
        if not 0 < site_id <= LARGEST_SITE_ID:
            raise ValueError(f"a site id is a number from 1 to {LARGEST_SITE_ID}, not {site_id}")
        return f"{self._before}{site_id}{self._behind}"

    def site_id(self, topic: str) -> int | None:
        """Return the site that a topic names, or None when it is not one of ours."""
        if not (topic.startswith(self._before) and topic.endswith(self._behind)):
            return None
        digits = topic[len(self._before) : len(topic) - len(self._behind)]
        if not (digits.isdecimal() and digits.isascii()) or digits[0] == "0" or len(digits) > _MOST_DIGITS:
            return None
        site_id = int(digits)
        return site_id if site_id <= LARGEST_SITE_ID else None
