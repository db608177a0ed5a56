"""Downloads from a server on this machine that breaks off, refuses ranges, or sends something else."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep.download import download, file_md5, unpack
from recsys_zoo.errors import InputError

CONTENT = bytes(range(256)) * 1200  # 300 kB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Site:
    """What the server holds, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.content, self.ranges, self.etag = CONTENT, True, '"one"'
        self.stops: list[int] = []  # bytes that the next replies send before they break off
        self.codes: list[int] = []  # status codes that the next replies answer with
        self.asked: list[str] = []  # Range headers
        self.url = ""


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            served.asked.append(asked)
            if served.codes:
                self.send_error(served.codes.pop(0))
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and served.ranges else 0
            if self.headers.get("If-Range", served.etag) != served.etag:
                start = 0
            if start >= len(served.content):
                self.send_error(416)
                return
            body = served.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(served.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", served.etag)
            self.end_headers()
            self.wfile.write(body[:served.stops.pop(0)] if served.stops else body)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/data.zip"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def test_plain(site, tmp_path):
    steps = []
    target = tmp_path / "new" / "data.zip"
    path = download(site.url, target, md5=MD5, progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert sorted(p.name for p in path.parent.iterdir()) == ["data.zip"]


def test_resumes_where_the_line_broke(site, tmp_path):
    site.stops = [100_000, 50_000]
    waits = []
    path = download(site.url, tmp_path / "data.zip", md5=MD5, wait=waits.append)
    assert path.read_bytes() == CONTENT
    assert site.asked == ["", "bytes=100000-", "bytes=150000-"]
    assert waits == [1.0, 1.0]  # each connection brought something new, so the pause does not grow


def test_resumes_after_the_process_ended(site, tmp_path):
    site.stops = [100_000, 0]
    with pytest.raises(InputError, match=r"broke off .* 100,000 bytes are kept and the same command goes on"):
        download(site.url, tmp_path / "data.zip", md5=MD5, attempts=2, wait=lambda _: None)
    assert not (tmp_path / "data.zip").exists()
    site.asked.clear()
    site.stops.clear()
    assert download(site.url, tmp_path / "data.zip", md5=MD5).read_bytes() == CONTENT
    assert site.asked == ["bytes=100000-"]


def test_old_part_is_not_trusted_without_a_checksum(site, tmp_path):
    (tmp_path / "data.zip.part").write_bytes(b"some other file")
    assert download(site.url, tmp_path / "data.zip").read_bytes() == CONTENT
    assert site.asked == [""]


def test_server_without_ranges(site, tmp_path):
    site.ranges, site.stops = False, [100_000]
    path = download(site.url, tmp_path / "data.zip", md5=MD5, wait=lambda _: None)
    assert path.read_bytes() == CONTENT
    assert site.asked == ["", "bytes=100000-"]


def test_file_that_changes_between_two_connections_is_taken_anew(site, tmp_path):
    site.stops = [100_000]

    def change(_: float) -> None:
        site.content, site.etag = CONTENT[::-1], '"two"'

    path = download(site.url, tmp_path / "data.zip", wait=change)
    assert path.read_bytes() == CONTENT[::-1]


def test_wrong_checksum_leaves_nothing(site, tmp_path):
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(InputError, match=rf"has md5 [0-9a-f]{{32}} instead of {MD5} and was removed"):
        download(site.url, tmp_path / "data.zip", md5=MD5)
    assert list(tmp_path.iterdir()) == []


def test_part_that_is_too_long_is_taken_anew(site, tmp_path):
    (tmp_path / "data.zip.part").write_bytes(CONTENT + b"more")
    assert download(site.url, tmp_path / "data.zip", md5=MD5, wait=lambda _: None).read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT) + 4}-", ""]


@pytest.mark.parametrize("name", ["data.zip", "data.zip.part"])
def test_complete_file_is_not_fetched_again(site, tmp_path, name):
    (tmp_path / name).write_bytes(CONTENT)
    assert download(site.url, tmp_path / "data.zip", md5=MD5).read_bytes() == CONTENT
    assert site.asked == []


def test_damaged_file_of_that_name_is_replaced(site, tmp_path):
    (tmp_path / "data.zip").write_bytes(b"damaged")
    assert download(site.url, tmp_path / "data.zip", md5=MD5).read_bytes() == CONTENT


def test_server_trouble_is_waited_for(site, tmp_path):
    site.codes = [503, 503, 429]
    waits = []
    assert download(site.url, tmp_path / "data.zip", md5=MD5, wait=waits.append).read_bytes() == CONTENT
    assert waits == [1.0, 2.0, 4.0]


def test_attempts_end(site, tmp_path):
    site.codes = [503] * 9
    waits = []
    sentence = r"cannot be downloaded \(HTTP 503 .*\); fetch the files by hand and use --raw DIR"
    with pytest.raises(InputError, match=sentence):
        download(site.url, tmp_path / "data.zip", md5=MD5, wait=waits.append, attempts=3)
    assert waits == [1.0, 2.0]
    assert len(site.asked) == 3


def test_missing_page_is_said_at_once(site, tmp_path):
    site.codes = [404]
    with pytest.raises(InputError, match="HTTP 404"):
        download(site.url, tmp_path / "data.zip", wait=lambda _: pytest.fail("waited for a missing page"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/data.zip", "not an address"])
def test_no_network_is_one_sentence(tmp_path, url):
    with pytest.raises(InputError, match="use --raw DIR") as caught:
        download(url, tmp_path / "data.zip", attempts=2, wait=lambda _: None)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{url}: cannot be downloaded (")
    assert list(tmp_path.iterdir()) == []


def test_file_md5_by_hand(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_md5(tmp_path / "abc") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5


def archive(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, text in files.items():
            opened.writestr(f"../ml-1m/{name}.dat", text)
    return path


def test_unpack_takes_the_named_files_only(tmp_path):
    path = archive(tmp_path / "a.zip", users="u", movies="m", other="o")
    unpack(path, ["users.dat", "movies.dat"], tmp_path / "raw")
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["movies.dat", "users.dat"]
    assert (tmp_path / "raw" / "users.dat").read_text() == "u"


def test_unpack_refuses_another_archive(tmp_path):
    with pytest.raises(InputError, match=r"does not hold ratings\.dat"):
        unpack(archive(tmp_path / "a.zip", users="u"), ["users.dat", "ratings.dat"], tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_unpack_refuses_a_damaged_archive(tmp_path, damage):
    path = archive(tmp_path / "a.zip", users="u" * 1000)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-30]
    elif damage == "flip":
        content[500] ^= 1
    else:
        content = b"<html>not found</html>"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a whole zip file"):
        unpack(path, ["users.dat"], tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
