"""The web page in a real Chromium: two people sign up, one posts a photo, the other follows, likes and comments."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from .http_client import PASSWORD, Server, picture, served

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
WAIT_S = 20
STALE = (StaleElementReferenceException,)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,1100",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (shutil.which(CHROMIUM) and shutil.which(DRIVER)), reason=f"needs {CHROMIUM} and {DRIVER}"),
]


class Browser:
    """One person's browser, with a profile of its own. Whatever is looked for is waited for."""

    def __init__(self, server: Server, profile: Path) -> None:
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.server = server
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, path: str) -> None:
        self.driver.get(self.server.url + path)

    def find(self, selector: str, text: str = "", act: Callable[[WebElement], object] | None = None) -> WebElement:
        """The first that is shown and holds the text, once `act` was done with it.

        A view may replace another between finding an element and using it: whatever went stale is looked for anew.
        """

        def found(driver: webdriver.Chrome) -> WebElement | None:
            for each in driver.find_elements(By.CSS_SELECTOR, selector):
                if each.is_displayed() and text in each.text:
                    if act:
                        act(each)
                    return each
            return None

        element = WebDriverWait(self.driver, WAIT_S, ignored_exceptions=STALE).until(found, f"{selector} {text}")
        assert element is not None
        return element

    def click(self, selector: str, text: str = "") -> None:
        self.find(f"{selector}:enabled, {selector}:any-link", text, WebElement.click)

    def type(self, selector: str, text: str) -> None:
        self.find(selector, act=lambda element: element.send_keys(text))

    def sign_up(self, name: str) -> None:
        self.open("/")
        self.type("#username", name)
        self.type("#password", PASSWORD)
        self.click("#sign-in button", "Sign up")
        self.find("#feed")

    def path_becomes(self, path: str) -> None:
        WebDriverWait(self.driver, WAIT_S).until(lambda driver: urlsplit(driver.current_url).path == path, path)

    def complaints(self) -> list[str]:
        """What the page did that its policy forbids, scripts that failed, files that were missing."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@contextmanager
def browsing(server: Server, profile: Path) -> Iterator[Browser]:
    browser = Browser(server, profile)
    try:
        yield browser
    finally:
        browser.driver.quit()


def test_two_people_use_the_page(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(picture(7))
    with (
        served(tmp_path / "data") as server,
        browsing(server, tmp_path / "ann") as ann,
        browsing(server, tmp_path / "bob") as bob,
    ):
        ann.sign_up("Ann")
        upload(ann, photo)
        bob.sign_up("Bob")
        assert bob.find("#feed").text.startswith("Nothing here yet")
        bob.open("/@ann")
        bob.find(".counts", "1 post, 0 followers")
        bob.click("#follow", "Follow")
        bob.find("#follow", "Following")
        bob.find(".counts", "1 follower,")
        bob.click("nav a", "Home")
        bob.click("#feed .older")
        bob.find("#feed .empty", "That was all")
        see_like_and_comment(bob)
        ann.click("article .comment-count")
        ann.find("#comments li", "What a light!")
        ann.find(".like", "1")
        assert ann.find("img.photo").get_attribute("alt") == "Coloured noise"
        folder = os.environ.get("DARKROOM_SCREENSHOTS")
        if folder:
            ann.driver.save_screenshot(f"{folder}/post.png")
            bob.open("/")
            bob.find("article")
            bob.driver.save_screenshot(f"{folder}/home.png")
            bob.open("/upload")
            bob.find("#upload-form")
            bob.driver.save_screenshot(f"{folder}/upload.png")
        ann.click("#sign-out")
        ann.find("#sign-in")
        if folder:
            ann.driver.save_screenshot(f"{folder}/sign-in.png")
        assert ann.complaints() == []
        assert bob.complaints() == []


def upload(browser: Browser, photo: Path) -> None:
    browser.click("nav a", "Upload")
    browser.find("#upload-form")
    assert not browser.driver.find_element(By.CSS_SELECTOR, "img.chosen").is_displayed()
    browser.find("#photo").send_keys(str(photo))
    browser.find("img.chosen")
    browser.type("#description", "Coloured noise")
    browser.type("#caption", "<b>Not bold</b>, said @nobody")
    browser.click("#upload-form button", "Post")
    browser.path_becomes("/")
    browser.find("article .caption", "<b>Not bold</b>")


def see_like_and_comment(browser: Browser) -> None:
    browser.find("article .caption", "<b>Not bold</b>")
    image = browser.find("article img.photo")
    loaded = "return arguments[0].complete && arguments[0].naturalWidth"
    WebDriverWait(browser.driver, WAIT_S).until(lambda driver: driver.execute_script(loaded, image) == 64)
    browser.click("article .like")
    browser.find("article .like[aria-pressed=true]", "1")
    browser.click("article .comment-count")
    browser.type("#comment", "What a light!")
    browser.click("#comment-form button", "Send")
    browser.find("#comments li", "What a light!")


def test_what_goes_wrong_is_said_on_the_page(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server, browsing(server, tmp_path / "eve") as eve:
        server.person("taken")
        eve.open("/")
        eve.type("#username", "taken")
        eve.type("#password", PASSWORD)
        eve.click("#sign-in button", "Sign up")
        eve.find("#notice", "the name taken is taken")
        eve.click("#sign-in button", "Sign in")
        eve.find("#feed")
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no photo")
        eve.click("nav a", "Upload")
        eve.find("#photo").send_keys(str(broken))
        eve.click("#upload-form button", "Post")
        eve.find("#notice", "not a JPEG")
        eve.open("/@nobody_here")
        eve.find(".empty", "no such account")


def test_every_control_has_a_name_and_every_image_a_text(tmp_path: Path) -> None:
    unnamed = """
        const bad = [];
        for (const e of document.querySelectorAll("input, textarea")) if (!e.labels.length) bad.push(e.outerHTML);
        for (const e of document.querySelectorAll("button, a")) if (!e.textContent.trim()) bad.push(e.outerHTML);
        for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) bad.push(e.outerHTML);
        return bad;"""
    with served(tmp_path / "data") as server, browsing(server, tmp_path / "ann") as ann:
        ann.open("/")
        ann.find("#sign-in")
        assert ann.driver.execute_script(unnamed) == []
        ann.sign_up("Ann")
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(picture())
        upload(ann, photo)
        for path, there in (("/", "article"), ("/upload", "#upload-form"), ("/@ann", "article")):
            ann.open(path)
            ann.find(there)
            assert ann.driver.execute_script(unnamed) == []


def test_what_comes_late_does_not_replace_what_was_asked_for_since(tmp_path: Path) -> None:
    hold = """
        const fetched = window.fetch;
        const released = new Promise((release) => { window.release = release; });
        window.fetch = async (url, ...rest) => {
            const answer = await fetched(url, ...rest);
            if (!String(url).includes("/statuses")) return answer;
            window.held = true;
            await released;
            const json = answer.json.bind(answer);
            answer.json = () => json().finally(() => setTimeout(window.late));
            return answer;
        };"""
    release = "window.late = arguments[arguments.length - 1]; window.release();"
    with served(tmp_path / "data") as server, browsing(server, tmp_path / "ann") as ann:
        ann.sign_up("Ann")
        ann.driver.execute_script(hold)
        ann.click("#own-profile")
        WebDriverWait(ann.driver, WAIT_S).until(lambda driver: driver.execute_script("return window.held"))
        ann.click("nav a", "Upload")
        ann.find("#upload-form")
        ann.driver.execute_async_script(release)
        assert ann.driver.title.startswith("Upload")
        assert ann.find("#upload-form").is_displayed()
