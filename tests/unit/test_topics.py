"""Which site a topic names, and what is subscribed to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_ingest.mqtt.topics import LARGEST_SITE_ID, TopicTemplate

TEMPLATES = [
    "bms/sites/{site_id}/telemetry",
    "{site_id}/telemetry",
    "bms/{site_id}",
    "{site_id}",
    "/{site_id}/",
    "1/{site_id}/1",
]


def test_filter_matches_every_site() -> None:
    template = TopicTemplate("bms/sites/{site_id}/telemetry")

    assert template.filter() == "bms/sites/+/telemetry"
    assert template.filter("daemons") == "$share/daemons/bms/sites/+/telemetry"


@pytest.mark.parametrize("group", ["", "a/b", "a+", "#", "a\nb"])
def test_group_that_would_change_the_filter_is_refused(group: str) -> None:
    with pytest.raises(ValueError, match="without / \\+ #"):
        TopicTemplate("bms/{site_id}").filter(group)


@pytest.mark.parametrize("template", TEMPLATES)
@given(site_id=st.integers(1, LARGEST_SITE_ID))
def test_topic_of_a_site_names_that_site(template: str, site_id: int) -> None:
    topics = TopicTemplate(template)

    assert topics.site_id(topics.topic(site_id)) == site_id


@pytest.mark.parametrize("template", TEMPLATES)
@given(topic=st.text(st.sampled_from("0123456789/+-_ bms²٣"), max_size=30))
def test_a_topic_that_names_a_site_is_the_only_topic_of_that_site(template: str, topic: str) -> None:
    topics = TopicTemplate(template)
    site_id = topics.site_id(topic)

    assert site_id is None or topics.topic(site_id) == topic


@pytest.mark.parametrize(
    "level",
    [
        "",
        "0",
        "01",
        "+1",
        "-1",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "1_000",
        "0x1",
        "٣",
        "²",
        "\uff11",
        "a",
        "1/2",
        "9" * 19,
        "9" * 5000,
    ],
)
def test_level_that_is_no_canonical_site_id_names_no_site(level: str) -> None:
    assert TopicTemplate("bms/sites/{site_id}/telemetry").site_id(f"bms/sites/{level}/telemetry") is None


def test_largest_site_id_is_the_largest_bigint() -> None:
    topics = TopicTemplate("a/{site_id}")

    assert topics.site_id(f"a/{2**63 - 1}") == 2**63 - 1
    assert topics.site_id(f"a/{2**63}") is None


@pytest.mark.parametrize(
    "topic",
    ["bms/sites/telemetry", "bms/sites//telemetry", "bms/sites/7/status", "x/bms/sites/7/telemetry", ""],
)
def test_other_topics_name_no_site(topic: str) -> None:
    assert TopicTemplate("bms/sites/{site_id}/telemetry").site_id(topic) is None


def test_prefix_and_suffix_may_not_overlap() -> None:
    assert TopicTemplate("a/{site_id}/b").site_id("a/b") is None


@pytest.mark.parametrize("site_id", [0, -1, 2**63])
def test_number_that_no_site_can_have_has_no_topic(site_id: int) -> None:
    with pytest.raises(ValueError, match="a site id is a number from 1"):
        TopicTemplate("a/{site_id}").topic(site_id)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "bms",
        "bms/x{site_id}",
        "{site_id}/{site_id}",
        "a/{site_id}{site_id}",
        "+/{site_id}",
        "{site_id}/#",
        "$share/g/{site_id}",
        "{site}/{site_id}",
    ],
)
def test_template_without_one_whole_level_for_the_site_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        TopicTemplate(template)
