"""Which hosts may see a credential, and which never do."""

import pytest

from registry_cleanup.domain.trust import Endpoint, Host, TrustedHosts


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port"),
    [
        ("https://registry.example.com", "https", "registry.example.com", 443),
        ("https://registry.example.com:5000/v2/", "https", "registry.example.com", 5000),
        ("http://registry.example.com", "http", "registry.example.com", 80),
        ("HTTPS://Registry.Example.COM", "https", "registry.example.com", 443),
        ("https://[2001:DB8::1]:5000", "https", "2001:db8::1", 5000),
        ("https://[2001:db8::1]", "https", "2001:db8::1", 443),
        ("https://10.0.0.1/token?service=x", "https", "10.0.0.1", 443),
    ],
)
def test_an_endpoint_is_scheme_host_and_port(url: str, scheme: str, host: str, port: int) -> None:
    assert Endpoint.of(url) == Endpoint(scheme, host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example.com",
        "//registry.example.com",
        "/token",
        "ftp://registry.example.com",
        "file:///etc/passwd",
        "https://",
        "https://:5000",
        "https:registry.example.com",
        "https://registry.example.com:port",
        "https://registry.example.com:65536",
        "https://registry.example.com:0",
        "https://[::1",
        "https://user@registry.example.com",
        "https://user:password@registry.example.com",
        "https://registry.example.com@evil.example.net",
        "https://@evil.example.net",
    ],
)
def test_what_is_no_url_of_a_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are Python's, and callers say their own
        Endpoint.of(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://registry.example.com", "registry.example.com:443"),
        ("http://registry.example.com:5000", "registry.example.com:5000"),
        ("https://[2001:db8::1]:5000", "[2001:db8::1]:5000"),
    ],
)
def test_an_endpoint_is_written_with_its_port(url: str, text: str) -> None:
    assert Endpoint.of(url).host_port == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry.example.com", Host("registry.example.com", None)),
        ("Registry.Example.com:5000", Host("registry.example.com", 5000)),
        (" registry.example.com ", Host("registry.example.com", None)),
        ("[2001:db8::1]", Host("2001:db8::1", None)),
        ("[2001:db8::1]:5000", Host("2001:db8::1", 5000)),
    ],
)
def test_a_host_stands_for_any_port_unless_it_names_one(text: str, expected: Host) -> None:
    assert Host.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":5000",
        "https://registry.example.com",
        "registry.example.com/team",
        "registry.example.com?x",
        "registry.example.com#x",
        "user@registry.example.com",
        "registry.example.com:port",
        "registry.example.com:65536",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are Python's, and callers say their own
        Host.parse(text)


def test_what_is_no_url_is_told_in_words_and_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"^not an http or https URL$"):
        Endpoint.of("ftp://user:password@registry.example.com")


def test_what_is_no_host_is_told_and_no_more_of_it_than_a_person_needs() -> None:
    with pytest.raises(ValueError, match=r"^not a host\[:port\]: 'a/b'$"):
        Host.parse("a/b")
    with pytest.raises(ValueError, match=r"^not a host\[:port\]: '/{100}'$"):
        Host.parse("/" * 1000)


_OWN = Host("registry.example.com")
_TRUST = TrustedHosts.of([_OWN, Host("tokens.example.com", 8443), _OWN], allow_http=False)
_OPEN = TrustedHosts.of([_OWN], allow_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://registry.example.com/token",
        "https://registry.example.com:8443/token",
        "https://REGISTRY.example.com:1/",
        "https://tokens.example.com:8443/auth",
    ],
)
def test_a_trusted_host_may_receive_the_credential(url: str) -> None:
    assert _TRUST.refusal(Endpoint.of(url)) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.net",
        "https://example.com",
        "https://sub.registry.example.com",
        "https://registry.example.com.evil.net",
        "https://registry.example.com.",
        "https://xregistry.example.com",
        "https://tokens.example.com",
        "https://tokens.example.com:443",
    ],
)
def test_any_other_host_or_port_is_refused(url: str) -> None:
    assert _TRUST.refusal(Endpoint.of(url)) == "it is not among the hosts that the credential was meant for"


def test_nothing_goes_over_http_unless_that_is_allowed() -> None:
    endpoint = Endpoint.of("http://registry.example.com:5000")
    assert _TRUST.refusal(endpoint) == "it is not https"
    assert _OPEN.refusal(endpoint) is None
    assert _OPEN.refusal(Endpoint.of("http://evil.example.net")) is not None


_LINK_LOCAL = [
    "169.254.169.254",
    "169.254.0.1",
    "[fe80::1]",
    "[FE80::A9FE:A9FE]",
    "[febf::1]",
    "[fe80::1%25eth0]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    # The same address as systems' resolvers read it.
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.169.254",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.254.169.254.",
]


@pytest.mark.parametrize("host", _LINK_LOCAL)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_link_local_address_is_refused_even_where_it_is_trusted(scheme: str, host: str) -> None:
    endpoint = Endpoint.of(f"{scheme}://{host}:8080/latest/meta-data")
    trust = TrustedHosts.of([Host(endpoint.host)], allow_http=True)
    assert endpoint.link_local
    assert trust.refusal(endpoint) == "it is a link-local address"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "10.0.0.1", "[fd00::1]", "[::ffff:10.0.0.1]", "169.253.1.1", "registry", "1.example.com"],
)
def test_other_addresses_and_names_are_not_link_local(host: str) -> None:
    assert Endpoint.of(f"https://{host}").link_local is False


def test_without_hosts_nobody_is_trusted() -> None:
    assert TrustedHosts.of([], allow_http=True).refusal(Endpoint.of("https://registry.example.com")) is not None


def test_each_host_is_held_once() -> None:
    assert _TRUST.hosts == (_OWN, Host("tokens.example.com", 8443))
