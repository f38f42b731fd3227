"""Who may ask, from where; the headers of answers; and addresses that need a token."""

import pytest
from starlette.testclient import TestClient
from tests.unit.studio.conftest import HEADERS, LIMITS

from maquette.errors import MaquetteError
from maquette.studio.http.guard import COOKIE
from maquette.studio.server import application, check_address, guarded, known_names

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def app(engine):
    return application(engine, page=False)


@pytest.fixture
def private(app):
    hosts = known_names("0.0.0.0", [])
    with TestClient(guarded(app, LIMITS, hosts, TOKEN), base_url="http://studio.lan:7860") as client:
        yield client


def test_every_address_asks_for_the_token(private) -> None:
    for path in ("/api", "/api/docs", "/api/openapi.json", "/controlnet/version", "/", "/nowhere"):
        assert private.get(path).status_code == 401, path
        assert private.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert private.get(path, headers={"Cookie": 'a[]=b; maquette_token="\\400'}).status_code == 401
    assert private.post(f"/api/sessions?token={TOKEN}").status_code == 401
    assert private.get("/api", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_browser_shows_it_once_and_its_address_keeps_none(private) -> None:
    told = private.get(f"/api?token={TOKEN}", follow_redirects=False)
    assert (told.status_code, told.headers["location"]) == (303, "/api")
    assert "HttpOnly" in told.headers["set-cookie"] and "SameSite=Strict" in told.headers["set-cookie"]
    assert private.cookies[COOKIE] == TOKEN and private.get("/api").status_code == 200
    split = private.get(f"/a%0d%0aset-cookie:x=y?token={TOKEN}", follow_redirects=False)
    assert split.headers["location"] == "/a%0D%0Aset-cookie%3Ax%3Dy"
    away = private.get(f"//evil.example/x?token={TOKEN}", follow_redirects=False)
    assert not away.headers.get("location", "/").startswith(("//", "http"))


@pytest.mark.parametrize(
    "before",
    ['seen={"banner":true}', "name=Ada Lovelace", "city=Orléans", f"long={'x' * 6000}", "a[]=b", "maquette_token=old"],
)
def test_cookies_of_others_keep_nobody_out(before, private) -> None:
    """Cookies are shared by all ports of a machine."""
    for cookies in (f"{before}; {COOKIE}={TOKEN}", f"{COOKIE}={TOKEN}; {before}"):
        assert private.get("/api", headers={"Cookie": cookies.encode("latin-1")}).status_code == 200
    assert private.get("/api", headers={"Cookie": before.encode("latin-1")}).status_code == 401


def test_other_sites_send_nothing(client) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://[", ""):
        assert client.post("/api/sessions", headers={"origin": origin}).status_code == 403
    assert client.post("/api/sessions", headers={"origin": f"http://{HEADERS['host']}"}).status_code == 200


def test_other_names_of_this_machine_are_refused(client) -> None:
    for host in ("evil.example", "evil.example:7860", "", "127.0.0.1.evil.example"):
        assert client.get("/api", headers={"host": host}).status_code == 421
    for host in ("localhost:1", "[::1]:7860", "127.0.0.1"):
        assert client.get("/api", headers={"host": host}).status_code == 200


def test_headers(client) -> None:
    for path in ("/api", "/api/docs", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert client.get("/api").headers["cache-control"] == "no-store"


def test_a_length_that_is_none(client) -> None:
    for length in ("-1", "1e9", "9" * 400, "²"):
        told = client.post("/api/generate", content=b"{}", headers={"content-length": length.encode()})
        assert told.status_code == 413, length


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "studio.lan"])
def test_only_this_machine_needs_no_token(host) -> None:
    with pytest.raises(MaquetteError, match="asks for a token"):
        check_address(host, None)
    check_address(host, TOKEN)
    for local in ("127.0.0.1", "::1", "localhost"):
        check_address(local, None)
    for weak in ("", "short", "a" * 15, "with space and more", "semicolon;in-a-cookie"):
        with pytest.raises(MaquetteError, match="16 letters"):
            check_address(host, weak)
