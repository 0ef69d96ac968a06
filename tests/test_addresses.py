"""Credentials in addresses: whatever their form, none is shown."""

from __future__ import annotations

import pytest

from study.addresses import redact, secrets_of, shown

ADDRESSES = [
    ("postgresql://ann:s3cret@db/runs", "postgresql://db/runs"),
    ("postgresql+psycopg2://ann:s3cret%2F@db/runs", "postgresql+psycopg2://db/runs"),
    ("postgresql://ann:s3c/ret@db/runs", "postgresql://db/runs"),
    ("https://s3cret@mlflow", "https://mlflow"),
    ("https://ann:s3cret@[::1", "https://[::1"),
    ("mysql://db/runs?user=ann&password=s3cret", "mysql://db/runs?user=***&password=***"),
    ("s3://AKIA1:s3cret/x@bucket/study", "s3://bucket/study"),
    ("s3://bucket/study?secret_key=s3cret%2B", "s3://bucket/study?secret_key=***"),
    ("ray://ann:s3cret@head:10001", "ray://head:10001"),
]


@pytest.mark.parametrize(("url", "expected"), ADDRESSES)
def test_an_address_is_shown_without_its_credentials(url: str, expected: str) -> None:
    assert shown(url) == expected
    for secret in secrets_of(url):
        said = redact(f"no route to {url}: {secret} was refused", url)
        assert "s3c" not in said
        assert "ann" not in said


@pytest.mark.parametrize(
    "url", ["/home/a@b/study.db", "sqlite:////a@b/x.db?mode=ro", "host:6379", "https://t/a@b", ""]
)
def test_what_holds_no_credentials_is_shown_as_it_is(url: str) -> None:
    assert shown(url) == url
    assert secrets_of(url) == []
