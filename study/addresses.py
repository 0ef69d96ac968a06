"""Shows addresses of servers, databases and storage without credentials.

Everything before the host, and every value of the query, counts as a credential: passwords, tokens
and keys go by many names there.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit


def secrets_of(url: str) -> list[str]:
    """Return the credentials in an address, longest first; a path or an SQLite file has none."""
    if "://" not in url or url.lower().startswith("sqlite"):
        return []
    rest = url.partition("://")[2]
    try:
        parts = urlsplit(url)
        query, userinfo = parts.query, parts.netloc.rpartition("@")[0]
    except ValueError:  # such as brackets around no IPv6 address: no part of it is safe to show
        query, userinfo = rest.partition("?")[2], rest.rpartition("@")[0]
    if not userinfo and "@" in rest.partition("?")[0] and not url.lower().startswith("http"):
        # `urlsplit`, unlike drivers, ends the host at an unescaped '/', '?' or '#' of a password.
        userinfo = rest.rpartition("@")[0]
    values = {value for _, value in parse_qsl(query)}
    values |= {pair.partition("=")[2] for pair in query.split("&")}
    name, _, password = userinfo.partition(":")
    # A token alone takes the place of the user's name.
    for secret in (userinfo, password or name):
        values |= {secret, unquote(secret)}
    return sorted(values - {""}, key=len, reverse=True)


def redact(text: object, *urls: str) -> str:
    """Return a text, such as an error, with every credential of some addresses as `***`."""
    clean = str(text)
    for secret in sorted({s for url in urls for s in secrets_of(url)}, key=len, reverse=True):
        clean = clean.replace(secret, "***")
    return clean


def shown(url: str) -> str:
    """Return an address without its credentials."""
    return redact(url, url).replace("***@", "")
